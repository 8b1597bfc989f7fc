"""Images that arrive before this machine's clock was set say so, from receipt to bucket."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.paths import PHOTOS
from tests.support.receiver import START, Receiver
from tests.support.s3_server import strict_place
from uploader.cli.main import headgate

ANY_CLOCK_IS_TOO_EARLY = """
from datetime import UTC, datetime
from headgate.host import set_clock
set_clock.RELEASED, set_clock.WAIT_SECONDS = datetime(9000, 1, 1, tzinfo=UTC), 0.0
"""


@pytest.mark.parametrize("unset", [True, False])
def test_what_arrives_is_marked_from_its_receipt_to_the_bucket(
    tmp_path: Path, picture: Callable[[], bytes], unset: bool
) -> None:
    with strict_place(tmp_path) as s3:
        receiver = Receiver(tmp_path)
        receiver.program = (ANY_CLOCK_IS_TOO_EARLY if unset else "") + START
        receiver.flags |= {
            "s3.bucket": s3.bucket, "s3.endpoint_url": s3.url, "s3.region": "us-east-1",
        }  # fmt: skip
        receiver.start()
        try:
            said = receiver.post_raw(picture(), X_Device="cam-7").json
            assert ("-unset_cam-7_" in said["id"]) is unset
            assert ("clock was not set" in " ".join(said.get("warnings", []))) is unset
            assert receiver.get(f"/images/{said['id']}").json.get("warnings") == said.get(
                "warnings"
            )
            assert ("clock not set" in receiver.get("/").body.decode()) is unset
            latest = receiver.get("/status.json").json["latest"]
            assert latest[0].get("warnings") == said.get("warnings")
            assert ("clock.wrong" in {one["event"] for one in receiver.events}) is unset
            assert ("clock not set" in call(receiver, "list")) is unset
            assert bool(json.loads(call(receiver, "list", "--json"))[0]["warnings"]) is unset
            # After a restart with a clock that can be believed, what was marked stays marked.
            receiver.stop()
            receiver.program = START
            receiver.start()
            assert receiver.get(f"/images/{said['id']}").json.get("warnings") == said.get(
                "warnings"
            )
            call(receiver, "drain")
            (key,) = (name for name in s3.names() if not name.endswith(".headgate-probe"))
            assert bool(re.search(r"/\d{8}T\d{6}\.\d{6}Z-unset_cam-7_", key)) is unset
            found = s3.client.head_object(Bucket=s3.bucket, Key=key)["Metadata"]
            assert found.get("clock") == ("unset" if unset else None)
            assert call(receiver, "list").rstrip().endswith("; clock not set" if unset else ".jpg")
            call(receiver, "verify")
        finally:
            receiver.stop()


def call(receiver: Receiver, *words: str) -> str:
    flags = [
        word for name, value in receiver.flags.items() for word in ("--set", f"{name}={value}")
    ]
    ran = CliRunner().invoke(headgate, [*flags, *words])
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.fixture
def picture() -> Callable[[], bytes]:
    """A photograph."""

    return (PHOTOS / "rocket.jpg").read_bytes
