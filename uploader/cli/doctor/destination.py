"""The place where images go: whether it would take and confirm them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from uploader.cli.doctor import bucket
from uploader.cli.doctor.findings import Finding, loses, ok, warning
from uploader.http_post.probe import Receiving
from uploader.s3.capability import Capability


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Why nothing was learned. ``tried``: the settings, the way there or the server were wrong, and
    not the time; ``refused``: it stays so until a person changes something."""

    check: str  # "bucket" or "destination"
    sentence: str
    tried: bool = False
    refused: bool = False


Seen = Capability | Receiving | NotAsked
"""What was learned by asking."""


def judge(seen: Seen) -> Iterator[Finding]:
    """Whether images get there, whatever its protocol."""
    match seen:
        case Capability():
            yield from bucket.judge(seen)
        case Receiving():
            yield from _another_server(seen)
        case NotAsked(refused=True):
            sentence = f"{seen.sentence} So nothing is sent, and the disk fills"
            yield loses(seen.check, sentence, "headgate config check")
        case NotAsked():
            yield warning(seen.check, seen.sentence, "headgate config check")


def _another_server(found: Receiving) -> Iterator[Finding]:
    for fault in found.faults:
        yield loses(
            "destination",
            f"{fault} So nothing is sent, and the disk fills",
            "correct [destination], then: headgate config check",
        )
    for sentence in found.warnings:
        yield warning("destination", sentence, "headgate config check")
    if found.usable:
        yield ok("destination", f"{found.url} answers; {found.notes[0]}")
