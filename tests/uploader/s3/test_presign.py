"""The link to an object: as boto3's own client signs it."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from headgate.settings.settings import combine
from uploader.s3.endpoint import open_access
from uploader.s3.presign import link


@pytest.mark.parametrize(("key", "version"), [("a/b.jpg", ""), ("a b/ü+1~.jpg", "v1")])
def test_it_is_what_botocore_signs(monkeypatch: pytest.MonkeyPatch, key: str, version: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    where = {"endpoint_url": "https://s3.example.net", "region": "eu-central-1"}
    flags = {f"s3.{name}": value for name, value in where.items()} | {"s3.bucket": "north"}
    access = open_access(combine(None, None, {}, flags, Path("/")), 5)
    client = boto3.client(
        "s3",
        endpoint_url=where["endpoint_url"],
        region_name=where["region"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    wanted = {
        "Bucket": "north",
        "Key": key,
        "ResponseContentDisposition": 'attachment; filename="x.jpg"',
        **({"VersionId": version} if version else {}),
    }

    def signature(url: str) -> tuple[str, set[str]]:
        path, _, query = url.partition("?")
        return path, {part for part in query.split("&") if "Date" not in part}

    for _ in range(50):  # a second may pass between the two
        ours = link(access, key, version, "x.jpg", 300)
        theirs = client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=300)
        if ours.partition("X-Amz-Date=")[2][:16] == theirs.partition("X-Amz-Date=")[2][:16]:
            break
    else:
        pytest.fail("a second passed between the two, fifty times")
    assert signature(ours) == signature(theirs)
