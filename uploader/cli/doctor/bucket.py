"""The bucket: which rights there are, and what its server can confirm. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from headgate.spool.site.confirmation import PROOFS
from uploader.cli.doctor.findings import Finding, loses, ok, warning
from uploader.s3.capability import Capability

_POLICY = "attach deploy/s3/iam-policy.json to the uploader's user or role"


def judge(found: Capability) -> Iterator[Finding]:
    """What its server was seen to do with a small object."""
    if "s3:PutObject" in found.missing_rights:
        yield loses(
            "bucket", f"s3:PutObject is missing on {found.bucket}: nothing is sent", _POLICY
        )
        return
    for right in found.missing_rights:
        yield warning(
            "bucket", f"{right} is missing: after a lost answer the outcome stays unknown", _POLICY
        )
    if not found.usable:
        yield loses("bucket", " ".join(found.sentences), "use another server: nothing is confirmed")
        return
    if not found.honours_if_none_match:
        yield warning(
            "bucket",
            "its server keeps no If-None-Match: a HEAD asks before each image, and two gateways "
            "that write the same key at once could still overwrite each other",
            "give each gateway a site.name or s3.prefix of its own",
        )
    if not (found.refuses_wrong_sha256 or found.refuses_wrong_md5 or found.head_proves):
        yield warning(
            "bucket",
            "its server checks no digest of uploads",
            "use AWS, or a server that does",
        )
    elif not found.missing_rights:
        way = PROOFS[found.confirmed_by]
        yield ok("bucket", f"{found.bucket} accepts images; each is confirmed by {way}")
