"""seewhy: see why images score as they do."""

__version__ = "0.1.0"
