"""The requests to CloudWatch. boto3 makes and signs them; they leave over the metered wire.

boto3's ``before-send`` event hands over each prepared request before its own connection would be
made, and what we return is its answer. So its serialising, signing and error reading are kept, and
not a byte passes the pacer by. Importing this imports boto3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as botocore_exceptions
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.utils import get_environ_proxies

from headgate.settings.settings import Settings
from uploader.s3.endpoint import trusted
from uploader.wire.errors import SendError
from uploader.wire.http import Exchange, HttpRequest, Target, Timeouts
from uploader.wire.meter import Meter
from uploader.wire.proxy import proxy_from

_PATIENCE = Timeouts(connect=10.0, stall=20.0, answer=20.0)


class CloudWatchTrouble(Exception):
    """CloudWatch did not take it; the sentence says why. ``permanent``: and never will."""

    def __init__(self, why: str, *, permanent: bool = False) -> None:
        super().__init__(why)
        self.permanent = permanent


class _Body:
    """The body of an answer, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_args: object, **_more: object) -> Iterator[bytes]:
        yield self._body


@contextmanager
def client(settings: Settings, pacer: Meter) -> Iterator[Any]:
    """A boto3 client of CloudWatch whose every request passes the pacer. One attempt each; what
    fails is CloudWatchTrouble, what the pacer raises comes through."""
    try:
        session = boto3.Session(
            profile_name=settings.s3.profile or None,
            region_name=settings.s3.region or None,
        )
        made = session.client("cloudwatch", config=Config(retries={"total_max_attempts": 1}))
        bundle = settings.s3.ca_bundle or session._session.get_config_variable("ca_bundle")
    except (botocore_exceptions.BotoCoreError, ValueError) as error:
        raise CloudWatchTrouble(str(error)) from error

    def send(request: Any, **_more: object) -> AWSResponse:
        return _over_the_wire(request, pacer, bundle)

    made.meta.events.register("before-send.cloudwatch", send)
    with closing(made):
        try:
            yield made
        except botocore_exceptions.ClientError as error:
            said = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(said.get("Code", ""))
            refused = status == 400 and code.startswith(("Invalid", "MissingParam", "Validation"))
            why = f"CloudWatch answers {status} {code}: {said.get('Message', '')}"
            raise CloudWatchTrouble(why.rstrip(": "), permanent=refused) from error
        except (botocore_exceptions.BotoCoreError, SendError) as error:
            raise CloudWatchTrouble(str(error)) from error


def _over_the_wire(request: Any, pacer: Meter, bundle: str | None) -> AWSResponse:
    parts = urlsplit(str(request.url))
    is_tls = parts.scheme == "https"
    target = Target(
        parts.hostname or "",
        parts.port or (443 if is_tls else 80),
        trusted(bundle) if is_tls else None,
        proxy_from(get_environ_proxies(str(request.url)), parts.scheme),
    )
    headers = {name: _text(value) for name, value in request.headers.items()}
    headers.setdefault("Host", parts.netloc)
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with closing(Exchange(target, pacer, _PATIENCE)) as exchange:
        answer = exchange.ask(HttpRequest(str(request.method), path, headers, bytes(body)))
    return AWSResponse(request.url, answer.status, _headers(answer.headers), _Body(answer.body))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _headers(found: Mapping[str, str]) -> Any:
    made = HTTPHeaders()
    for name, value in found.items():
        made[name] = value
    return made
