"""How far a command is, on the last line of a terminal: tqdm's bar, and lines of the log above it.

The bar takes what fits: in a narrow terminal less is said, and it never wraps. It is shown only on
a terminal that can move its cursor, and not before half a second has passed. Importing tqdm takes
as long as a short command, so this happens with the first bar.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TextIO

from headgate.host import terminal
from headgate.settings.units import human_duration, human_size

_DELAY_SECONDS = 0.5
_BAR_COLUMNS = 10
"""A bar that would be shorter is left out for what it says."""


class Progress(Protocol):
    """What a long task tells of itself."""

    def begin(self, what: str, total: int = 0, *, of_bytes: bool = False) -> None:
        """The next part of the task begins, of ``total`` steps; 0 if that is unknown."""

    def step(self, count: int = 1) -> None:
        """``count`` more are done."""

    def waits(self, why: str) -> None:
        """Nothing is done until something else happens: say at once what, until the next step."""


class Silent:
    """Says nothing."""

    def begin(self, what: str, total: int = 0, *, of_bytes: bool = False) -> None:
        pass

    def step(self, count: int = 1) -> None:
        pass

    def waits(self, why: str) -> None:
        pass


SILENT: Progress = Silent()


def can_show(out: TextIO) -> bool:
    """Whether a line on this stream can be replaced."""
    return out.isatty() and not terminal.is_dumb(os.environ)


@contextlib.contextmanager
def shown(*, hidden: bool = False, out: TextIO | None = None) -> Iterator[Progress]:
    """Show the progress of a task on stderr, and clear it at the end."""
    out = out or sys.stderr
    if hidden or not can_show(out):
        yield SILENT
        return
    line = Line(out)
    try:
        yield line
    finally:
        line.close()


@contextlib.contextmanager
def above() -> Iterator[None]:
    """Write whole lines to the terminal meanwhile: the bar makes room, and comes back below."""
    bar = Line.bar
    if bar is None:
        yield
        return
    with bar.get_lock():
        if bar.disable:  # it was closed while this thread waited
            yield
            return
        bar.clear(nolock=True)
        yield
        bar.refresh(nolock=True)


class Line:
    """The bar on the last line. One at a time; any thread may write ``above`` it."""

    bar: Any = None
    """The bar that is shown now, of whatever task."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bar: Any = None

    def begin(self, what: str, total: int = 0, *, of_bytes: bool = False) -> None:
        self._new(total, lambda *seen: counted_parts(what, *seen, of_bytes=of_bytes))
        self._bar.delay = _DELAY_SECONDS

    def step(self, count: int = 1) -> None:
        waited, self._bar.waits = self._bar.waits, ""
        self._bar.update(count)
        if waited:  # what is not true any more goes at once
            self._bar.refresh()

    def waits(self, why: str) -> None:
        with self._bar.get_lock():
            self._bar.waits = why
            self._bar.refresh(nolock=True)

    def say(self, done: int, total: int, parts: Sequence[str]) -> None:
        """Show these, the most important first, as many as fit; done is a part of total."""
        if self._bar is None:
            self._new(1, lambda *seen: parts)
        with self._bar.get_lock():
            self._bar.parts = lambda *seen: parts
            self._bar.n, self._bar.total = (done, total) if total else (1, 1)
            self._bar.refresh(nolock=True)

    def close(self) -> None:
        """Clear the line for what comes next."""
        if self._bar is not None:
            with self._bar.get_lock():
                self._bar.close()
                Line.bar = self._bar = None

    def _new(self, total: int, parts: _Parts) -> None:
        self.close()
        Line.bar = self._bar = _bar_class()(
            total=total or None,
            file=terminal.NeverFails(self._out),
            leave=False,
            delay=1e-9,  # nothing is shown before its parts are known
            miniters=1,
            dynamic_ncols=True,
        )
        self._bar.parts = parts


_Parts = Callable[[int, int | None, float], Sequence[str]]
"""What to say of the steps done, of how many in all (None: unknown), after how many seconds."""


def counted_parts(
    what: str, done: int, total: int | None, seconds: float, *, of_bytes: bool = False
) -> list[str]:
    """What is said of a task that counts its steps. Pure."""

    def said(count: int) -> str:
        return human_size(count) if of_bytes else f"{count:,}"

    if not total:
        return [said(done), what]
    parts = [f"{said(done)} of {said(total)}", what]
    if 0 < done <= total:
        parts.append(f"{human_duration((total - done) * seconds / done)} left")
    return parts


def fitting(parts: Sequence[str], width: int) -> str:
    """Each part that has room behind those before it; where none has, the first one, cut. Pure."""
    text = ""
    for part in parts:
        longer = f"{text}  {part}" if text else part
        if len(longer) <= width:
            text = longer
    return text or parts[0][: max(0, width - 1)] + "…"


def layout(parts: Sequence[str], columns: int, *, percent: bool) -> str:
    """A format for tqdm of what fits into the columns, and a bar in what is left. Pure."""
    head = "{percentage:3.0f}% " if percent else ""
    text = fitting(parts, max(0, columns - (5 if percent else 0)))
    escaped = text.replace("{", "{{").replace("}", "}}")
    if percent and columns - 5 - len(text) >= _BAR_COLUMNS:
        return f"{head}|{{bar}}| {escaped}"
    return head + escaped


def _bar_class() -> Any:
    """tqdm, imported now, with a format that follows the width of the terminal."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread that looks after it
        parts: _Parts
        waits = ""

        @property
        def format_dict(self) -> dict[str, Any]:
            found: dict[str, Any] = super().format_dict
            # One fewer than the terminal has, which may wrap as soon as its last is written.
            found["ncols"] = columns = max(1, found["ncols"] or 79)
            parts = self.parts(found["n"], found["total"], found["elapsed"])
            if self.waits:
                parts = [f"waiting: {self.waits}"]  # alone, so that it is cut rather than left out
            found["bar_format"] = layout(parts, columns, percent=bool(found["total"]))
            return found

    Bar.set_lock(threading.RLock())  # tqdm's own is for several processes
    return Bar
