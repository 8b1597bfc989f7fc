"""The ``headgate`` command."""
