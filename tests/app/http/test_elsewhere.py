"""Two receivers of one site: a retry at the other one gets the first receipt, and either of them
tells what the other one has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.queueing import Redis, needs_redis
from tests.support.receiver import START, Receiver, check, enrol, serving_processes
from tests.support.wait import wait_until

# A busy machine must not make Redis look slow.
PATIENT = (
    "from headgate.spool import elsewhere; elsewhere.DEADLINE_SECONDS = "
    "elsewhere.CLAIMED_SECONDS = 60.0; "
)


@needs_redis
@pytest.mark.slow
def test_two_receivers_answer_as_one(tmp_path: Path, photo: Callable[[], bytes]) -> None:
    redis, image = Redis(tmp_path / "redis").start(), photo()
    with ExitStack() as stack:
        stack.callback(redis.stop)
        gateways = []
        for name in ("gw1", "gw2"):
            (tmp_path / name).mkdir()
            one = Receiver(
                tmp_path / name,
                **{
                    "receiver.processes": "2", "uplink.gateway": name, "uplink.shared": redis.url,
                    "uplink.gateways": "2", "uplink.floor": "1MB/s",
                },
            )  # fmt: skip
            one.program = PATIENT + START
            stack.callback(one.start().stop)
            gateways.append(one)
        first, second = gateways
        token = {"Authorization": f"Bearer {enrol(first, 'cam-1')}"}
        held = check(first.post_raw(image, X_Sequence="4", **token), 201).json
        wait_until(lambda: len(serving_processes(second)) == 2, "both serve")
        mine, other = enrol(second, "cam-1"), enrol(second, "cam-2")
        token = {"Authorization": f"Bearer {mine}"}
        for _ in range(4):  # whichever process
            again = check(second.post_raw(image, X_Sequence="4", **token), 200).json
            assert again["duplicate"] is True and again["id"] == held["id"]
        assert not second.images()

        for ref in (held["id"], held["sha256"]):
            told = check(second.request("GET", f"/images/{ref}", **token), 200)
            assert told.json["gateway"] == "gw1" and told.json["as_of"].endswith("Z")
            assert told.json["state"] == "waiting" and told.json["safe_to_erase"] is False
            assert told.headers["safe-to-erase"] == "false"
            strange = {"Authorization": f"Bearer {other}"}
            check(second.request("GET", f"/images/{ref}", **strange), 404, "no_receipt")
        assert "gateway" not in check(first.get(f"/images/{held['id']}"), 401).json

        redis.stop()
        away = second.request("GET", f"/images/{held['id']}", **token)
        check(away, 503, "gateways_away")
        assert int(away.headers["retry-after"]) > 0
        check(second.post_raw(image, X_Sequence="4", **token), 201)  # two objects, and none lost
        assert len(second.images()) == len(first.images()) == 1
