"""How to reach the bucket and sign for it, as boto3 finds it. Importing this imports boto3.

boto3 resolves credentials, region, endpoint and addressing (path style, virtual hosts, dots in
names); signatures are botocore's. The request itself goes over our metered connections.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote, urlsplit

import boto3
from botocore import exceptions as botocore_exceptions
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from headgate.settings.settings import Settings
from uploader.s3.signature import Signer
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import Target
from uploader.wire.proxy import proxy_from

_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*", re.ASCII)  # what percent-encoding leaves as it is
_MARK = "headgate-key"


class _NoBody:
    """The body of an answer that never was."""

    def stream(self, *_args: object, **_more: object) -> Iterator[bytes]:
        return iter(())


@dataclass(frozen=True)
class Access:
    """How to reach one bucket: its base URL, its region, whose credentials. Thread-safe."""

    bucket: str
    base: str  # every key's URL is this and the encoded key
    region: str
    target: Target
    credentials: Any  # botocore's, which refresh themselves

    @cached_property
    def host(self) -> str:
        """What the Host header says."""
        return _host(self.base)

    @cached_property
    def _base_path(self) -> str:
        return urlsplit(self.base).path

    @cached_property
    def _signer(self) -> Signer:
        return Signer(self.region)

    @cached_property
    def _origin(self) -> str:
        return self.base.removesuffix(self._base_path)

    def url(self, key: str) -> str:
        return self._origin + self.path(key)

    def path(self, key: str) -> str:
        """The request target of a key; of the bucket itself, spelled as boto3 has it, where there
        is none."""
        if not key:
            return self._base_path.rstrip("/") or "/"
        return self._base_path + _encoded(key)

    def sign(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        sha256: str,
        query: str = "",
        at: float | None = None,
    ) -> dict[str, str]:
        """Sign a request: all of its headers; SendError if there are no valid credentials any
        more. ``at``: the time that it is signed with, in seconds of the epoch; None: this
        machine's."""
        path = self.path(key)
        url = f"{self._origin}{path}?{query}" if query else self._origin + path
        named = {"Host": self.host, "User-Agent": "headgate", **headers}
        at = time.time() if at is None else at
        try:
            frozen = self.credentials.get_frozen_credentials()
            return self._signer.sign(frozen, method, url, path, named, sha256, at)
        except botocore_exceptions.BotoCoreError as error:
            raise _no_credentials(error) from error


def open_access(
    settings: Settings, connect_seconds: float, region: str = "", *, in_host: bool = False
) -> Access:
    """Find everything that requests need; SendError FATAL with what to correct. ``region``: where
    the server says that the bucket is, instead of s3.region. ``in_host``: the bucket is part of the
    host name, whatever boto3 would choose.

    A HEAD is prepared by boto3 and intercepted before it is sent: its URL and its signature's scope
    are what boto3 would have used (a presigned URL would not do: it names the global endpoint).
    """
    bucket = settings.s3.bucket
    if not bucket:
        raise SendError(ErrorKind.FATAL, "no-bucket", "No bucket is configured; set s3.bucket.")
    seen: list[Any] = []
    style = "virtual" if in_host else settings.s3.addressing

    def intercept(request: Any, **_more: object) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), _NoBody())

    try:
        session = boto3.Session(
            profile_name=settings.s3.profile or None,
            region_name=region or settings.s3.region or None,
        )
        client = session.client(
            "s3",
            endpoint_url=settings.s3.endpoint_url or None,
            config=Config(
                signature_version="s3v4",
                retries={"total_max_attempts": 1},
                connect_timeout=connect_seconds,
                s3=cast("Any", {"addressing_style": style}),
            ),
        )
        client.meta.events.register("before-send.s3.HeadObject", intercept)
        client.head_object(Bucket=bucket, Key=_MARK)
        client.close()
        credentials = session.get_credentials()
        verify = settings.s3.ca_bundle or session._session.get_config_variable("ca_bundle")
    except (botocore_exceptions.BotoCoreError, ValueError) as error:
        raise _no_credentials(error) from error
    url = str(seen[0].url)
    authorization = seen[0].headers["Authorization"]
    if isinstance(authorization, bytes):
        authorization = authorization.decode("ascii")
    scope = authorization.partition("Credential=")[2].partition(",")[0]
    _, region, _, _ = scope.rsplit("/", 3)  # key/date, region, "s3", "aws4_request"
    parts = urlsplit(url)
    host = parts.hostname or ""
    return Access(
        bucket=bucket,
        base=url.removesuffix(_MARK),
        region=region,
        target=Target(
            host,
            parts.port or _PORTS[parts.scheme],
            trusted(verify) if parts.scheme == "https" else None,
            proxy_from(get_environ_proxies(url), parts.scheme),
        ),
        credentials=credentials,
    )


def _encoded(key: str) -> str:
    return key if _PLAIN.fullmatch(key) else quote(key, safe="/~")


def _host(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if parts.port is None or parts.port == _PORTS[parts.scheme]:
        return host
    return f"{host}:{parts.port}"


def trusted(verify: str | None) -> ssl.SSLContext:
    """Trust as boto3 has it: ca_bundle or AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, its own bundle."""
    bundle = verify or os.environ.get("REQUESTS_CA_BUNDLE") or str(get_cert_path(True))
    try:
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError) as error:
        raise SendError(
            ErrorKind.FATAL,
            "ca-bundle",
            f"The certificates in {bundle} cannot be read ({error}); correct s3.ca_bundle, or "
            "AWS_CA_BUNDLE.",
        ) from error


def _no_credentials(error: Exception) -> SendError:
    named = botocore_exceptions
    if isinstance(error, named.HTTPClientError | named.ConnectionError):
        return SendError(
            ErrorKind.UPLINK_DOWN,
            "no-credentials-yet",
            f"Credentials could not be fetched: {error}.",
        )
    if isinstance(error, named.NoCredentialsError):
        return SendError(
            ErrorKind.FATAL,
            "no-credentials",
            "No AWS credentials were found; put them where boto3 looks, for the user that runs "
            "the uploader (~/.aws/credentials, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY).",
        )
    what = str(error).rstrip(".")
    return SendError(ErrorKind.FATAL, "no-access", f"The S3 settings or credentials fail: {what}.")
