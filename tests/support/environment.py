"""The environment of a test without the settings of the person who runs it."""

from __future__ import annotations

import os


def without_settings() -> dict[str, str]:
    """This process's variables, but none of Headgate's."""
    return {k: v for k, v in os.environ.items() if not k.startswith("HEADGATE_")}
