"""What the settings add to requests: storage class, encryption, ACL, tags, who pays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from headgate.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """Headers of every request, and those of a PUT besides (Amazon S3 API Reference)."""

    every: Mapping[str, str] = field(default_factory=dict)
    put: Mapping[str, str] = field(default_factory=dict)

    def headers(self, method: str) -> dict[str, str]:
        """The headers to add to a request."""
        return {**self.every, **self.put} if method == "PUT" else dict(self.every)


def options(settings: Settings) -> Options:
    """As the section [s3] has it."""
    pairs = (tag.partition("=") for tag in settings.s3.tags)
    put = {
        "x-amz-storage-class": settings.s3.storage_class,
        "x-amz-server-side-encryption": settings.s3.encryption,
        "x-amz-server-side-encryption-aws-kms-key-id": settings.s3.kms_key,
        "x-amz-server-side-encryption-bucket-key-enabled": (
            "true" if settings.s3.bucket_key else ""
        ),
        "x-amz-acl": settings.s3.acl,
        "x-amz-tagging": "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, _, v in pairs),
    }
    every = {"x-amz-request-payer": "requester"} if settings.s3.requester_pays else {}
    return Options(every, {name: str(value) for name, value in put.items() if value})
