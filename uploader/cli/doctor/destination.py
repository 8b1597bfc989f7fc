"""The server that images are posted to: whether it would take and confirm them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from uploader.cli.doctor.findings import Finding, loses, ok, warning
from uploader.http_post.probe import Receiving

_MEND = "correct [destination], then: headgate config check"


def judge(found: Receiving | None, trouble: str, reached: bool) -> Iterator[Finding]:
    """``trouble``: why it was not asked; ``reached``: whether that is the server's own word."""
    if found is None:
        if reached:
            yield loses("destination", f"{trouble} So nothing is sent, and the disk fills", _MEND)
        else:
            yield warning("destination", trouble, "headgate config check")
        return
    for fault in found.faults:
        yield loses("destination", f"{fault} So nothing is sent, and the disk fills", _MEND)
    for sentence in found.warnings:
        yield warning("destination", sentence, "headgate config check")
    if found.usable:
        yield ok("destination", f"{found.url} answers; {found.notes[0]}")
