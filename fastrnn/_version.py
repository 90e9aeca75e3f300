"""The version. It is written here, for pyproject.toml too, and in csrc/fastrnn.h for C programs."""

__version__ = "0.1.0"
