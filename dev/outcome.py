"""Whether the bucket holds what the cameras were promised, and the summary that says so."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dev.camera import Acknowledged
from headgate.settings.units import human_size
from headgate.spool.site.runs import Run


@dataclass(frozen=True, slots=True)
class Found:
    """How the bucket compares with what the cameras know."""

    lost: int
    duplicates: int
    strange: int  # objects that nobody acknowledged


def compare(acknowledged: Sequence[Acknowledged], digests: Sequence[str]) -> Found:
    """Every acknowledged image once among the objects' own digests, and nothing else. Pure."""
    sent = Counter(digests)
    known = Counter(image.sha256 for image in acknowledged)
    return Found(
        lost=(known - sent).total(),
        duplicates=sum((sent[digest] - known[digest]) for digest in known if sent[digest]),
        strange=sum(count for digest, count in sent.items() if digest not in known),
    )


def over_the_cap(runs: Sequence[Run], rate: int) -> list[str]:
    """The runs whose bytes are more than the rate allows in their time and one second more."""
    return [
        run.id
        for run in runs
        if run.ended_at is not None
        and run.wire_bytes > rate * ((run.ended_at - run.started_at).total_seconds() + 1)
    ]


def summary(
    acknowledged: Sequence[Acknowledged],
    refused: Sequence[str],
    uploaded: int,
    runs: Sequence[Run],
    rate: int,
    digests: Sequence[str],
) -> bool:
    """Print what happened; True if every promise was kept. ``uploaded``: receipts that say so."""
    found = compare(acknowledged, digests)
    over = over_the_cap(runs, rate)
    size = sum(image.size for image in acknowledged)
    seconds = sorted(image.seconds for image in acknowledged) or [0.0]
    p50 = statistics.median(seconds)
    p95 = seconds[min(len(seconds) - 1, round(len(seconds) * 0.95))]
    rows = (
        ("acknowledged", f"{len(acknowledged)} images, {human_size(size)}"),
        ("time to the 201", f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"),
        ("refused", str(len(refused))),
        ("uploaded", f"{uploaded} images in {len(runs)} run{'s' * (len(runs) != 1)}"),
        ("fetched, compared", f"{len(digests)} objects by SHA-256"),
        ("lost", str(found.lost)),
        ("duplicates", str(found.duplicates)),
        ("unknown objects", str(found.strange)),
        ("runs over the cap", f"{len(over)} (cap {human_size(rate)}/s)"),
    )
    for name, value in rows:
        print(f"  {name:<18} {value}")
    for reason in refused[:3]:
        print(f"  refused: {reason}")
    kept = not (refused or over or found.lost or found.duplicates or found.strange)
    return kept and bool(acknowledged) and uploaded == len(acknowledged)
