"""The error measures of the papers."""
