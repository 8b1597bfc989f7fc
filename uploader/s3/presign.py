"""Signs a link to one object of the bucket: a program of its own, which the receiver starts when a
person wants an image that has left this disk. The receiver itself knows nothing of S3.

It reads JSON on stdin: ``settings`` (s3.bucket and what else is set), ``key``, ``version`` (empty
for none), ``file`` (the name to save it as) and ``seconds`` (how long the link is good). It writes
the link to stdout, or exits with 1 and a sentence. The credentials are those that boto3 finds for
the user who runs it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from headgate.settings.settings import SettingsError, combine
from uploader.wire.errors import SendError

if TYPE_CHECKING:
    from uploader.s3.endpoint import Access

_CONNECT_SECONDS = 5.0


def link(access: Access, key: str, version: str, file: str, seconds: int) -> str:
    """A GET of this object that anyone may do for so long; a browser saves what it gets."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    query = {"response-content-disposition": f'attachment; filename="{file}"'}
    if version:
        query["versionId"] = version
    url = f"{access.url(key)}?{urlencode(query, quote_via=quote)}"
    request = AWSRequest("GET", url)
    frozen = access.credentials.get_frozen_credentials()
    S3SigV4QueryAuth(frozen, "s3", access.region, expires=seconds).add_auth(request)
    return str(request.url)


def main() -> None:
    """Answer one request on stdin."""
    asked: Mapping[str, str | int | dict[str, str]] = json.load(sys.stdin)
    flags = asked["settings"]
    assert isinstance(flags, dict)
    try:
        settings = combine(None, None, {}, flags, Path("/"))
        from uploader.s3.endpoint import open_access  # imports boto3

        access = open_access(settings, _CONNECT_SECONDS)
        made = link(
            access, str(asked["key"]), str(asked["version"]), str(asked["file"]),
            int(str(asked["seconds"])),
        )  # fmt: skip
    except (SendError, SettingsError) as error:
        print(error)
        sys.exit(1)
    print(made)


if __name__ == "__main__":
    main()
