"""How the bucket is reached follows boto3's own rules; what is missing is named."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, EndpointConnectionError

from headgate.settings.settings import Settings, combine
from tests.support.s3_server import (
    CountingPacer,
    certificates,
    environment,
    settings_for,
    upload_of,
)
from uploader.s3.client import EMPTY_SHA256, S3Sender
from uploader.s3.endpoint import Access, open_access
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import Target


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    with environment(AWS_ACCESS_KEY_ID="AKID", AWS_SECRET_ACCESS_KEY="secret"):
        yield


def settings(**section: str) -> Settings:
    return combine({"s3": section}, None, {}, {}, Path.cwd())


@pytest.mark.parametrize(
    ("section", "base", "region"),
    [
        (
            {"bucket": "images", "region": "eu-central-1"},
            "https://images.s3.eu-central-1.amazonaws.com/",
            "eu-central-1",
        ),
        (
            {"bucket": "my.images", "region": "eu-central-1"},
            "https://s3.eu-central-1.amazonaws.com/my.images/",
            "eu-central-1",
        ),
        ({"bucket": "images"}, "https://images.s3.amazonaws.com/", "us-east-1"),
        (
            {"bucket": "images", "endpoint_url": "http://127.0.0.1:7480"},
            "http://127.0.0.1:7480/images/",
            "us-east-1",
        ),
        (
            {"bucket": "images", "endpoint_url": "https://s3.example.net/base", "region": "x-1"},
            "https://s3.example.net/base/images/",
            "x-1",
        ),
        (
            {"bucket": "images", "endpoint_url": "http://[::1]:9000"},
            "http://[::1]:9000/images/",
            "us-east-1",
        ),
    ],
)
def test_the_base_url_and_region_are_what_boto3_would_use(
    section: dict[str, str], base: str, region: str
) -> None:
    access = open_access(settings(**section), 1)
    assert (access.base, access.region) == (base, region)
    assert (access.target.tls is not None) == base.startswith("https")


@pytest.mark.parametrize(
    ("url", "host", "port", "header"),
    [
        ("http://127.0.0.1:7480", "127.0.0.1", 7480, "127.0.0.1:7480"),
        ("http://s3.example.net", "s3.example.net", 80, "s3.example.net"),
        ("https://s3.example.net:443", "s3.example.net", 443, "s3.example.net"),
        ("http://[::1]:9000", "::1", 9000, "[::1]:9000"),
    ],
)
def test_where_to_connect_and_what_host_to_name(
    url: str, host: str, port: int, header: str
) -> None:
    access = open_access(settings(bucket="images", endpoint_url=url), 1)
    assert (access.target.host, access.target.port) == (host, port)
    assert access.sign("HEAD", "k", {}, EMPTY_SHA256)["Host"] == header


def test_the_digest_is_signed_and_not_computed_from_a_body() -> None:
    access = open_access(settings_for("https://s3.example.net", "images"), 1)
    headers = access.sign("PUT", "a b/é", {"If-None-Match": "*", "Content-MD5": "x"}, "ab" * 32)
    assert headers["X-Amz-Content-SHA256"] == "ab" * 32
    signed = headers["Authorization"].partition("SignedHeaders=")[2].split(",")[0].split(";")
    assert {"host", "if-none-match", "x-amz-content-sha256", "x-amz-date"} <= set(signed)
    assert access.path("a b/é") == "/images/a%20b/%C3%A9"
    assert access.path("a=b&c+d~e%.-_") == "/images/a%3Db%26c%2Bd~e%25.-_"  # as SigV4 has it
    others = [chr(code) for code in range(128) if not (chr(code).isalnum() or chr(code) in "/~._-")]
    assert [access.path(one) for one in others] == [f"/images/%{ord(one):02X}" for one in others]


def test_session_credentials_bring_their_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-token")
    access = open_access(settings_for("https://s3.example.net", "images"), 1)
    headers = access.sign("PUT", "k", {}, EMPTY_SHA256)
    assert headers["X-Amz-Security-Token"] == "the-token"


def test_credentials_are_refreshed_when_they_are_about_to_expire() -> None:
    calls: list[int] = []

    def fetch() -> dict[str, Any]:
        calls.append(1)
        now = datetime.datetime.now(datetime.UTC)
        expires = now + datetime.timedelta(seconds=60 if len(calls) == 1 else 7200)
        return {
            "access_key": f"KEY{len(calls)}",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": expires.isoformat(),
        }

    credentials = RefreshableCredentials.create_from_metadata(fetch(), fetch, "test")
    access = Access("images", "http://h/images/", "us-east-1", Target("h", 80), credentials)
    assert "Credential=KEY2/" in access.sign("HEAD", "k", {}, EMPTY_SHA256)["Authorization"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError(endpoint_url="https://sts"), ErrorKind.UPLINK_DOWN),
        (CredentialRetrievalError(provider="iam-role", error_msg="gone"), ErrorKind.FATAL),
    ],
)
def test_credentials_that_cannot_be_refreshed(error: Exception, kind: ErrorKind) -> None:
    class Failing:
        def get_frozen_credentials(self) -> None:
            raise error

    access = Access("images", "http://h/images/", "us-east-1", Target("h", 80), Failing())
    with pytest.raises(SendError) as caught:
        access.sign("HEAD", "k", {}, EMPTY_SHA256)
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("section", "variables", "code", "words"),
    [
        ({"bucket": ""}, {}, "no-bucket", "s3.bucket"),
        ({"bucket": "images"}, {"AWS_ACCESS_KEY_ID": ""}, "no-credentials", "boto3 looks"),
        ({"bucket": "images", "profile": "nobody"}, {}, "no-access", "nobody"),
        (
            {"bucket": "images", "endpoint_url": "https://s3.example.net"},
            {"AWS_CA_BUNDLE": "/nonexistent/ca.pem"},
            "ca-bundle",
            "/nonexistent/ca.pem",
        ),
    ],
)
def test_what_is_missing_is_named(
    section: dict[str, str],
    variables: dict[str, str],
    code: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    path = tmp_path / "image"
    path.write_bytes(b"x")
    sender = S3Sender(settings(**section), CountingPacer())
    with pytest.raises(SendError) as caught:
        sender.send(upload_of(path, "k"))
    assert (caught.value.kind, caught.value.code) == (ErrorKind.FATAL, code)
    assert words in caught.value.message
    sender.close()


def test_nothing_is_imported_before_the_first_use() -> None:
    import subprocess
    import sys

    text = "import sys, uploader.s3.client, uploader.run.workers; print('boto3' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("addressing", "base"),
    [
        ("path", "https://s3.eu-central-1.amazonaws.com/images/"),
        ("virtual", "https://images.s3.eu-central-1.amazonaws.com/"),
    ],
)
def test_where_the_bucket_stands_can_be_set(addressing: str, base: str) -> None:
    chosen = settings(bucket="images", region="eu-central-1", addressing=addressing)
    assert open_access(chosen, 1).base == base


def test_the_authority_that_is_set_comes_before_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/ca.pem")
    _, ours = certificates(tmp_path)
    found = open_access(settings(bucket="images", ca_bundle=ours), 1).target.tls
    assert found is not None
    assert len(found.get_ca_certs()) == 1


def test_no_error_shows_the_password_of_a_url() -> None:
    error = SendError(ErrorKind.FATAL, "x", "Invalid endpoint: https://me:pass@host")
    assert error.message == "Invalid endpoint: https://***@host" and "pass" not in str(error)
