"""The version of qir."""

__version__ = "0.1.0"
