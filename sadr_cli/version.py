"""The version: of the wheel, too, and known without the package's metadata, which takes 20 ms."""

__version__ = "0.5.0"
