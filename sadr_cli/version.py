"""The version, also of the wheel. The installed metadata would lag behind an edited tree."""

__version__ = "0.5.0"
