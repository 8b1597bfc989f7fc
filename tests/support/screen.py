"""A terminal of a given width: what a program that writes to it leaves on the screen."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

from tests.support.paths import ROOT

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """The rows of a terminal that wraps at once in its last column, as the simplest do. It knows
    carriage return and line feed; colours are left out, and whatever else moves the cursor is an
    error."""

    def __init__(self, columns: int) -> None:
        self._columns, self._row, self._column = columns, 0, 0
        self._rows: dict[int, list[str]] = {0: []}
        self.seen: set[str] = set()
        """Each row as it was when the cursor left it."""

    @property
    def rows(self) -> list[str]:
        return ["".join(row).rstrip() for _, row in sorted(self._rows.items())]

    def write(self, text: str) -> None:
        for one in _COLOUR.sub("", text):
            if one in "\r\n":
                self.seen.add("".join(self._rows[self._row]).rstrip())
            if one == "\r":
                self._column = 0
            elif one == "\n":
                self._down()
            else:
                assert one.isprintable(), repr(one)
                row = self._rows[self._row]
                row += " " * (self._column + 1 - len(row))
                row[self._column] = one
                self._column += 1
                if self._column == self._columns:
                    self._down()
                    self._column = 0

    def _down(self) -> None:
        self._row += 1
        self._rows.setdefault(self._row, [])


def on_terminal(
    command: Sequence[str], columns: int, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a program on a terminal of its own; its exit code, and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "COLUMNS")}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
        env={**kept, "TERM": "xterm", **(environment or {})},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                piece = terminal.read(65536)
            except OSError as error:  # Linux says so when the other side is closed
                assert error.errno == errno.EIO
                break
            if not piece:
                break
            said += piece
    return process.wait(60), said.decode()
