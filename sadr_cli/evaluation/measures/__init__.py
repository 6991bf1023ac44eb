"""The papers' error measures."""
