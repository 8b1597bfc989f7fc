"""Opening the destination that the settings name, and remembering what was seen of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from headgate.spool.site.confirmation import ProofKind
from headgate.spool.site.site import S3_CLOCK
from headgate.spool.spool import Spool
from uploader.destination.contract import Describe, Sender
from uploader.http_post import description
from uploader.http_post.client import HttpSender
from uploader.s3 import keys
from uploader.s3.client import S3Sender
from uploader.s3.dialect import Dialect, recall, remember
from uploader.s3.probe import probe
from uploader.wire.connection import Cutoff
from uploader.wire.http import Timeouts
from uploader.wire.meter import Meter

_BY_SETTINGS = (ProofKind.NONE, ProofKind.DOWNLOAD, ProofKind.SAMPLE)
"""Proofs that depend on settings too, and not on the server alone."""


def describes(spool: Spool) -> Describe:
    """How the destination names and describes each image."""
    settings = spool.settings
    if settings.destination.kind == "http":
        return description.describe
    return keys.describe(
        settings.site.name, settings.s3.prefix, settings.s3.layout, settings.uplink.gateway
    )


def bucket_of(
    spool: Spool, bucket: str, pacer: Meter, timeouts: Timeouts | None = None
) -> S3Sender:
    """Open the bucket of a receipt, which may be another one than the settings name now."""
    settings = spool.settings
    settings = replace(settings, s3=replace(settings.s3, bucket=bucket))
    return S3Sender(settings, pacer, dialect=recall(spool.site, settings), timeouts=timeouts)


@contextlib.contextmanager
def opened(spool: Spool, pacer: Meter, cutoff: Cutoff) -> Iterator[Sender]:
    """Open the sender for one run."""
    over_http = spool.settings.destination.kind == "http"
    with _over_http(spool, pacer, cutoff) if over_http else _bucket(spool, pacer, cutoff) as sender:
        try:
            yield sender
        finally:
            if sender.clock_offset is not None:
                spool.site.put(S3_CLOCK, sender.clock_offset)


@contextlib.contextmanager
def _over_http(spool: Spool, pacer: Meter, cutoff: Cutoff) -> Iterator[Sender]:
    with contextlib.closing(HttpSender(spool.settings, pacer, cutoff=cutoff)) as sender:
        yield sender


@contextlib.contextmanager
def _bucket(spool: Spool, pacer: Meter, cutoff: Cutoff) -> Iterator[Sender]:
    settings = spool.settings
    dialect = recall(spool.site, settings)
    if dialect is not None and dialect.proof in _BY_SETTINGS:
        wanted = ProofKind.SAMPLE if settings.s3.download_sample else ProofKind.DOWNLOAD
        if dialect.proof is not (wanted if settings.s3.download_proof else ProofKind.NONE):
            dialect = None  # looked at before that was set
    sender = S3Sender(
        settings, pacer, cutoff=cutoff, dialect=dialect,
        learn=lambda one: probe(one, settings.s3.prefix),
    )  # fmt: skip
    try:
        yield sender
    finally:
        sender.close()
        if sender.dialect != (dialect or Dialect()):
            remember(spool.site, settings, sender.dialect)
