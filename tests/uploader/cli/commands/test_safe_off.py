"""``headgate safe-off``: nothing new comes in, everything goes out, and only then is it safe."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from app import create_app
from headgate.actions import holds
from headgate.host.exit_codes import Exit
from headgate.spool.site.audit import TERMINAL, Actor
from tests.support.gateway import Gateway
from tests.support.images import picture
from tests.support.spooling import put
from uploader.cli.commands.safe_off import await_uploads
from uploader.cli.main import headgate


def call(gateway: Gateway, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--config", str(gateway.config), *words])


def test_it_is_safe_only_when_nothing_is_left_and_stays_closed_until_it_is_opened(
    gateway: Gateway,
) -> None:
    client = create_app(gateway.spool).test_client()
    headers = {"Content-Type": "image/jpeg", "X-Device": "cam-9"}

    def post() -> int:
        return client.post("/images", data=picture(3000), headers=headers).status_code

    assert post() == 201
    images = gateway.fill(3)
    holds.hold(gateway.spool, Actor("anna", TERMINAL), "cam-0")
    first = call(gateway, "safe-off", "--reason", "a new disk", "--json")
    assert first.exit_code == Exit.STILL_WAITING, first.output
    left = json.loads(first.stdout)["left"]
    assert (left["held"], left["waiting"], left["arriving"]) == (1, 0, 0)
    refused = client.post("/images", data=picture(3000), headers=headers)
    assert (refused.status_code, refused.json["code"]) == (503, "safe_off")
    assert refused.headers["Retry-After"] == "60"
    assert client.get("/readyz").status_code == 503
    assert "headgate safe-on" in call(gateway, "status").stdout
    call(gateway, "release", "cam-0")
    again = call(gateway, "safe-off")
    assert again.exit_code == Exit.OK and "may be switched off" in again.stdout
    assert len(gateway.objects()) >= len(images) + 1
    assert "accepted again" in call(gateway, "safe-on").stdout
    assert post() == 201
    assert "accepted already" in call(gateway, "safe-on").stdout


def test_an_uplink_that_is_down_is_not_safe(gateway: Gateway) -> None:
    put(gateway.spool, b"one")
    gateway.write(endpoint="http://127.0.0.1:9")
    assert call(gateway, "safe-off").exit_code == Exit.STILL_WAITING


def test_uploads_that_had_begun_come_to_their_end(gateway: Gateway) -> None:
    with gateway.spool.incoming() as incoming:
        incoming.write(b"half")
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) > 2:
                for path in gateway.spool.files.tmp.iterdir():
                    path.unlink()

        await_uploads(gateway.spool, monotonic=lambda: 0.0, sleep=sleep)
    assert len(slept) == 3


@pytest.mark.parametrize("words", [("--max-time", "soon")])
def test_what_cannot_be_meant_is_refused(gateway: Gateway, words: tuple[str, ...]) -> None:
    assert call(gateway, "safe-off", *words).exit_code == Exit.USAGE
    assert not gateway.spool.is_safe_off()
