"""The Redis server through which gateways lend each other the uplink: whether it can. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from uploader.cli.doctor.findings import Finding, ok, warning


def judge(trouble: str | None, floor: str) -> Iterator[Finding]:
    """``trouble``: why Redis did not answer, "" if it did; None where no uplink is shared."""
    if trouble:
        yield warning(
            "shared-uplink",
            f"{trouble}: this gateway sends at its floor, {floor}/s, and borrows nothing",
            "start Redis, or correct uplink.shared",
        )
    elif trouble is not None:
        yield ok("shared-uplink", f"Redis answers; {floor}/s are this gateway's own without it")
