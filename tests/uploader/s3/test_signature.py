"""Signatures are botocore's own, whatever is signed, and where they are not, botocore signs."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uploader.s3.endpoint import Access
from uploader.wire.http import Target

BASES = ("http://127.0.0.1:7480/images/", "https://images.s3.amazonaws.com/", "http://[::1]:9/a/b/")
NAMES = (
    "Content-Length", "Content-Type", "Content-MD5", "If-None-Match", "x-amz-meta-tags",
    "x-amz-checksum-sha256", "x-amz-acl", "x-amz-tagging", "Expect", "X-Amzn-Trace-Id",
)  # fmt: skip
KEYS: tuple[tuple[str, str, str | None], ...] = (
    ("AKID", "secret", None),
    ("AKID", "other", "the-token"),
    ("AKID2", "secret", None),
)


class Credentials:
    """Those that are in force at the moment."""

    def __init__(self) -> None:
        self.now = KEYS[0]

    def get_frozen_credentials(self) -> Any:
        return ReadOnlyCredentials(*self.now)


CREDENTIALS = Credentials()
ACCESS = [Access("images", base, "eu-west-1", Target("h", 80), CREDENTIALS) for base in BASES]
BODY = b"bytes"
DIGEST = hashlib.sha256(BODY).hexdigest()


@contextmanager
def at_second(at: float) -> Iterator[None]:
    now = datetime.datetime.fromtimestamp(at, datetime.UTC)
    with mock.patch("botocore.auth.get_current_datetime", lambda: now):
        yield


def botocores(access: Access, method: str, url: str, headers: dict[str, str], at: float) -> Any:
    """What botocore makes of a whole request of its own kind, by itself."""
    whole = AWSRequest(method, url, {"Host": access.host, "User-Agent": "x", **headers}, BODY)
    with at_second(at):
        S3SigV4Auth(access.credentials.get_frozen_credentials(), "s3", access.region).add_auth(
            whole
        )
    return whole.headers


@settings(max_examples=60, deadline=None)
@given(
    which=st.sampled_from(range(len(BASES))),
    method=st.sampled_from(["PUT", "HEAD", "GET"]),
    key=st.text(st.characters(codec="utf-8"), max_size=40),
    headers=st.dictionaries(
        st.sampled_from(NAMES), st.text(st.characters(max_codepoint=255), max_size=30)
    ),
    whose=st.sampled_from(KEYS),
    at=st.integers(1_600_000_000, 1_600_300_000),
    query=st.sampled_from(["", "list-type=2&prefix=a%2Fb&encoding-type=url"]),
)
@example(0, "PUT", "a b/é=1.jpg", {"x-amz-meta-tags": "  a =\t b "}, KEYS[1], 1_600_000_000, "")
@example(1, "PUT", "/a//b", {"x-amz-meta-tags": "a\x1cb\xa0c\x85"}, KEYS[0], 1_600_000_000, "")
def test_every_signature_is_what_botocore_makes(
    which: int,
    method: str,
    key: str,
    headers: dict[str, str],
    whose: tuple[str, str, str | None],
    at: int,
    query: str,
) -> None:
    access, CREDENTIALS.now = ACCESS[which], whose
    for _ in range(2):  # the second one is signed with a key that is known already
        ours = access.sign(method, key, headers, DIGEST, query, at)
        url = access.url(key) + (f"?{query}" if query else "")
        assert not key or url.startswith(access.base + quote(key, safe="/~"))
        theirs = botocores(access, method, url, headers, at)
        assert ours["Authorization"] == theirs["Authorization"]
        assert ours["X-Amz-Date"] == theirs["X-Amz-Date"]
        assert ours.get("X-Amz-Security-Token") == whose[2]
        assert access._signer._agrees  # it was not botocore that signed this
        assert url.partition("?")[0].endswith(access.path(key))


def test_once_botocore_signs_otherwise_it_signs_everything() -> None:
    access = Access("images", BASES[0], "eu-west-1", Target("h", 80), Credentials())
    with mock.patch.object(S3SigV4Auth, "signature", lambda *_: "another"):
        for method in ("HEAD", "PUT"):
            signed = access.sign(method, "k", {}, DIGEST, at=1_600_000_000)
            assert signed["Authorization"].endswith("Signature=another")


def test_each_new_key_is_compared_with_botocores() -> None:
    credentials = Credentials()
    access = Access("images", BASES[0], "eu-west-1", Target("h", 80), credentials)
    with mock.patch.object(
        S3SigV4Auth, "add_auth", autospec=True, side_effect=S3SigV4Auth.add_auth
    ) as asked:
        for at in (1_600_000_000, 1_600_000_001, 1_600_000_001 + 86_400):
            access.sign("PUT", "k", {}, DIGEST, at=at)
        assert asked.call_count == 2  # once a day
        credentials.now = KEYS[2]
        access.sign("PUT", "k", {}, DIGEST, at=1_600_000_001 + 86_400)
        assert asked.call_count == 3
