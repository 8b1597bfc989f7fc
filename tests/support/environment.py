"""The environment of a test without the settings of the person who runs it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.paths import ROOT

PYTHON_PATH = f"{Path(__file__).with_name('as_installed')}{os.pathsep}{ROOT}"
"""For programs of this checkout, so that they find what an installation has, and no more."""


def without_settings() -> dict[str, str]:
    """This process's variables, but none of Headgate's."""
    return {k: v for k, v in os.environ.items() if not k.startswith("HEADGATE_")}
