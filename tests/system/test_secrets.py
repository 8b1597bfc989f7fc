"""Secrets are planted wherever a site has them, and looked for wherever anything is written."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import forked
from tests.support.environment import without_settings
from tests.support.images import picture
from tests.support.paths import ROOT
from tests.support.receiver import START, Receiver, enrol
from tests.support.s3_server import Place

pytestmark = pytest.mark.slow

CRASHES = """
from headgate.spool.spool import Spool
def accept(*words, **more):
    raise RuntimeError("a mistake of ours, for the test")
Spool.accept = accept
"""
"""A receiver that meets an exception of its own in each upload, with all that is in its frames."""


def planted(word: str) -> str:
    return f"PLANTED{word}{secrets.token_hex(12)}"


class Site:
    """A receiver and commands whose settings hold secrets; ``said`` is what any of them wrote."""

    def __init__(self, root: Path, place: Place) -> None:
        self.said: dict[str, str] = {}
        self.secrets = {
            name: planted(name)
            for name in ("S3KEY", "SLACK", "SMTP", "HEARTBEAT", "BROKER", "APPRISE", "WRONGTOKEN")
        }
        has = self.secrets
        place.client.create_bucket(Bucket="secrets")
        self.config = root / "headgate.toml"
        self.config.write_text(
            f'[site]\nname = "north"\n[spool]\npath = "{root / "spool"}"\n'
            f'[s3]\nbucket = "secrets"\nendpoint_url = "{place.url}"\nregion = "us-east-1"\n'
            '[receiver]\nauth = "token"\n'
            '[alerts]\nmail_to = ["a@example.org"]\nmail_from = "b@example.org"\n'
        )
        # Nothing listens there, so that each channel's error has something to tell.
        (root / "secrets.toml").write_text(
            f'[alerts]\nslack_webhook = "http://127.0.0.1:9/services/{has["SLACK"]}"\n'
            f'smtp_url = "smtp://user:{has["SMTP"]}@127.0.0.1:9"\n'
            f'heartbeat_url = "http://127.0.0.1:9/{has["HEARTBEAT"]}"\n'
            f'apprise = ["json://user:{has["APPRISE"]}@127.0.0.1:9/"]\n'
            f'[queue]\nbroker = "redis://:{has["BROKER"]}@127.0.0.1:9/0"\n'
        )
        (root / "secrets.toml").chmod(0o600)
        self.root = root
        self.variables = {
            **without_settings(), "PYTHONPATH": str(ROOT),
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": has["S3KEY"],
        }  # fmt: skip
        self.receiver = Receiver(root)
        self.receiver.config = str(self.config)
        self.receiver.environment = self.variables

    def call(self, *words: str) -> None:
        ran = forked.headgate("--config", str(self.config), *words, env=self.variables)
        self.said["headgate " + " ".join(words)] = ran.stdout + ran.stderr

    def post(self, token: str) -> int:
        answer = self.receiver.post_raw(picture(2000), Authorization=f"Bearer {token}")
        self.said[f"an answer of {answer.status}"] = f"{answer.headers} {answer.body!r}"
        return answer.status

    def written(self) -> dict[str, bytes]:
        """Whatever was said, and each file but the settings: logs, databases, ledgers, images."""
        found = {name: text.encode() for name, text in self.said.items()}
        for path in self.root.rglob("*"):
            if path.is_file() and path.suffix != ".toml":
                found[str(path)] = path.read_bytes()
        return found


def shapes(secret: str) -> set[bytes]:
    """A secret as it may be written down: as it is, quoted, in base64 at any offset."""
    found = {secret.encode(), quote(secret).encode(), secret.encode()[::-1]}
    for before in range(3):
        packed = base64.b64encode(b"x" * before + secret.encode())
        found.add(packed[4:-4])
    return found


def test_no_secret_is_written_anywhere_else(tmp_path: Path, place: Place) -> None:
    site = Site(tmp_path, place)
    site.receiver.program = CRASHES + START
    site.receiver.start()
    try:
        token = site.secrets["TOKEN"] = enrol(site.receiver, "cam-1")
        assert site.post(token) == 500
    finally:
        site.receiver.stop()
    assert "a mistake of ours" in site.receiver.log.read_text(), "it says what went wrong"
    site.receiver.program = START
    site.receiver.start()
    try:
        assert site.post(token) == 201
        assert site.post(site.secrets["WRONGTOKEN"]) == 401
        for path in (f"/?token={token}", "/status.json", "/metrics", "/openapi.json"):
            answer = site.receiver.request("GET", path, Authorization=f"Bearer {token}")
            site.said[path.partition("?")[0]] = f"{answer.headers} {answer.body!r}"
        for words in (
            ("config", "show"), ("config", "show", "--json"), ("config", "check"), ("-v", "drain"),
            ("alert", "test"), ("-v", "watch"), ("doctor",), ("doctor", "--json"), ("status",),
            ("status", "--json"), ("audit",), ("device", "list"), ("verify",), ("check",),
            ("drain", "--set", "s3.endpoint_url=http://127.0.0.1:9"),
        ):  # fmt: skip
            site.call(*words)
    finally:
        site.receiver.stop()
    assert "1 uploaded" in site.said["headgate -v drain"], site.said["headgate -v drain"]
    written = site.written()
    assert any(name.endswith("site.sqlite3") for name in written)  # what a backup holds
    leaks = {
        f"{word} in {name}"
        for word, secret in site.secrets.items()
        for name, data in written.items()
        if any(shape in data for shape in shapes(secret))
    }
    assert leaks == set()
    assert len(site.secrets) == 8


def test_a_secret_is_found_in_whatever_shape_it_is_written() -> None:
    secret = planted("X")
    for text in (
        secret,
        f"Basic {base64.b64encode(f'user:{secret}'.encode()).decode()}",
        quote(secret),
    ):
        assert any(shape in text.encode() for shape in shapes(secret)), text
