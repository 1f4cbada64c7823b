"""The meshd daemon: pure machines in `core`, shells around them, one composition root in `app`."""

__version__ = "0.1.0"
