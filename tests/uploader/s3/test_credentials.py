"""Profiles, roles, web identity, containers: boto3 finds the credentials, and they sign."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.support.s3_server import environment, settings_for
from tests.support.wait import join
from uploader.s3.client import EMPTY_SHA256
from uploader.s3.endpoint import open_access
from uploader.wire.errors import ErrorKind, SendError

ENDPOINT = "http://127.0.0.1:7480"
CREDENTIALS = {
    "AccessKeyId": "ASIATEMPORARY",
    "SecretAccessKey": "temporary",
    "SessionToken": "the-session",
    "Expiration": "2099-01-01T00:00:00Z",
}
STS = """<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
<Credentials>{fields}</Credentials></{action}Result></{action}Response>"""


class Issuer(ThreadingHTTPServer):
    """Answers like STS (its API Reference) and a container's agent; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Issuer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        words = {name: values[0] for name, values in parse_qs(body).items()}
        self.server.asked.append(words)
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in CREDENTIALS.items())
        self._say(STS.format(action=words["Action"], fields=fields), "text/xml")

    def do_GET(self) -> None:
        self.server.asked.append({"path": self.path, **self.headers})
        fields = {"Token" if k == "SessionToken" else k: v for k, v in CREDENTIALS.items()}
        self._say(json.dumps(fields), "application/json")

    def _say(self, text: str, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        join(thread)


def signed(profile: str = "") -> dict[str, str]:
    """The headers of a request, with credentials as they are found now."""
    access = open_access(settings_for(ENDPOINT, "images", profile=profile), 5)
    return access.sign("PUT", "k", {}, EMPTY_SHA256)


def is_temporary(headers: dict[str, str]) -> bool:
    return (
        "Credential=ASIATEMPORARY/" in headers["Authorization"]
        and headers["X-Amz-Security-Token"] == "the-session"
    )


def files(folder: Path, config: str, credentials: str = "") -> dict[str, str]:
    for name, text in (("config", config), ("credentials", credentials)):
        (folder / name).write_text(text)
    return {
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
    }


KEYS = "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = secret\n"


def test_a_profile_signs_with_its_keys(tmp_path: Path) -> None:
    with environment(**files(tmp_path, "[profile base]\nregion = eu-central-1\n", KEYS)):
        assert "Credential=AKIABASE/" in signed("base")["Authorization"]


def test_a_role_of_a_profile_is_assumed(tmp_path: Path, issuer: Issuer) -> None:
    config = (
        "[profile gateway]\nrole_arn = arn:aws:iam::111122223333:role/gateway\n"
        "source_profile = base\nexternal_id = north\n"
    )
    with environment(
        **files(tmp_path, config, KEYS), AWS_ENDPOINT_URL_STS=issuer.url, AWS_REGION="us-east-1"
    ):
        assert is_temporary(signed("gateway"))
    (asked,) = issuer.asked
    assert asked["Action"] == "AssumeRole"
    assert asked["RoleArn"].endswith("role/gateway")
    assert asked["ExternalId"] == "north"


def test_web_identity_is_exchanged_for_a_session(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "token").write_text("a-web-identity-token")
    with environment(
        AWS_ROLE_ARN="arn:aws:iam::111122223333:role/pod",
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
        AWS_ENDPOINT_URL_STS=issuer.url,
        AWS_REGION="us-east-1",
    ):
        assert is_temporary(signed())
    (asked,) = issuer.asked
    assert asked["Action"] == "AssumeRoleWithWebIdentity"
    assert asked["WebIdentityToken"] == "a-web-identity-token"


def test_a_containers_agent_is_asked(issuer: Issuer) -> None:
    with environment(
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{issuer.url}/v2/credentials",
        AWS_CONTAINER_AUTHORIZATION_TOKEN="the-agent's-token",
    ):
        assert is_temporary(signed())
    assert issuer.asked[0]["path"] == "/v2/credentials"
    assert issuer.asked[0]["Authorization"] == "the-agent's-token"


def test_an_issuer_that_cannot_be_reached_is_the_uplink_down(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-web-identity-token")
    with environment(
        AWS_ROLE_ARN="arn:aws:iam::111122223333:role/pod",
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
        AWS_ENDPOINT_URL_STS="http://127.0.0.1:9",
        AWS_REGION="us-east-1",
        AWS_MAX_ATTEMPTS="1",
    ):
        with pytest.raises(SendError) as caught:
            signed()
    assert caught.value.kind is ErrorKind.UPLINK_DOWN
