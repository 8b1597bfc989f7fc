"""FTP, mail and watched folders: whether what is to take pictures there runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from uploader.cli.doctor.findings import Finding, loses, ok, warning
from uploader.cli.install.layout import OptionalUnit


@dataclass(frozen=True, slots=True)
class OtherWay:
    """One way in besides HTTP. ``is_active``: None where systemd does not run, and nothing is
    known of it."""

    unit: OptionalUnit
    is_wanted: bool  # its setting says so
    is_installed: bool  # the packages that it needs
    is_active: bool | None


def judge(ways: Sequence[OtherWay]) -> Iterator[Finding]:
    """A camera that knows one way only sends nothing while that is closed."""
    for one in ways:
        unit = one.unit
        if one.is_wanted and not one.is_installed:
            yield loses(
                "ways-in",
                f"{unit.setting} is set, and the packages for {unit.way} are not installed: no "
                "picture comes that way",
                f"make install EXTRAS={unit.extra}",
            )
        elif one.is_wanted and one.is_active is False:
            yield loses(
                "ways-in",
                f"{unit.setting} is set, and {unit.unit} does not run: no picture comes that way",
                f"headgate install; journalctl -u {unit.unit} -n 20",
            )
        elif one.is_wanted and one.is_active:
            yield ok("ways-in", f"{unit.unit} runs")
        elif one.is_active:
            yield warning(
                "ways-in",
                f"{unit.unit} runs, and {unit.setting} is not set",
                f"set {unit.setting}, or stop it: headgate install",
            )
