"""Garbage collection is off while a command loads, and only then."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys, types
import click
from uploader.cli import main

made = types.ModuleType("made")
made.command = click.Command("made", callback=lambda: print(gc.isenabled(), gc.get_freeze_count()))
sys.modules["made"] = made
main.COMMANDS[sys.argv[1]] = "made"
main.main()
"""


@pytest.mark.parametrize("command", ["worker", "watch", "status"])
def test_a_command_collects_garbage_and_does_not_look_at_what_was_loaded(command: str) -> None:
    enabled, frozen = seen(command)
    assert enabled == "True"
    assert int(frozen) > 10_000


def test_a_run_starts_without() -> None:
    """It turns collection on itself once S3's model is loaded: ``Drain._tidy``."""
    assert seen("drain")[0] == "False"


def seen(command: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, command], capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    return ran.stdout.split()
