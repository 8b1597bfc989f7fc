"""The numbers are true: a witness counts beside a small campaign, and all that tell must agree."""

from __future__ import annotations

import random
from pathlib import Path

from dev.s3_local.faults import Act, Fault
from headgate.host.exit_codes import Exit
from tests.support.gateway import Gateway
from tests.support.paths import PHOTOS
from tests.support.receiver import Receiver, running
from tests.support.s3_server import Place
from tests.support.witness import assert_agree, samples

IMAGES = 24


def scraped(receiver: Receiver) -> dict[str, float]:
    return samples(receiver.get("/metrics").body.decode())


class Witness:
    """What was acknowledged, counted by whoever sent it."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.devices: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def posts(self, receiver: Receiver, seed: int) -> None:
        chance = random.Random(seed)
        photo = (PHOTOS / "rocket.jpg").read_bytes()
        for number in range(IMAGES):
            device = f"cam-{chance.randrange(4)}"
            image = photo + b"\0" * chance.randrange(1000) + b"%d" % number
            answer = receiver.post_raw(image, X_Device=device)
            assert answer.status == 201
            self.sizes[answer.json["id"]] = len(image)
            self.devices[device] = self.devices.get(device, 0) + 1
            if chance.random() < 0.3:
                assert receiver.post_raw(b"no image", X_Device=device).status == 415
                self.refused[device] = self.refused.get(device, 0) + 1
            if chance.random() < 0.3:  # its answer was lost, so it comes again
                assert receiver.post_raw(image, X_Device=device).status == 200

    def of(self, images: set[str]) -> dict[str, int]:
        return {"images": len(images), "bytes": sum(self.sizes[image] for image in images)}


def file_of(gateway: Gateway, image: str) -> Path:
    """The one file of an image, wherever it is now."""
    (found,) = (
        path
        for folder in ("new", "aside", "done")
        for path in (gateway.spool.path / folder).rglob(f"{image}.*")
    )
    return found


def overwrite(path: Path, data: bytes) -> None:
    """Its bytes, and nothing else of it."""
    with path.open("r+b") as file:
        file.write(data)


def test_all_that_tell_agree_with_a_witness(tmp_path: Path, place: Place) -> None:
    gateway = Gateway(tmp_path, place)
    witness = Witness()
    try:
        with running(tmp_path, spool__keep_free="0B", receiver__device_rate="0") as receiver:
            witness.posts(receiver, seed=20261123)
            ids = sorted(witness.sizes)
            bad, late = set(ids[3:5]), {ids[10]}
            in_key = {image: f"/{image}." for image in ids}
            gateway.script.replace([
                Fault(Act.STATUS_LATE, status=500, code="InternalError",
                      when=lambda key: any(in_key[image] in key for image in late)),
            ])  # fmt: skip
            changed = {image: file_of(gateway, image) for image in bad}
            kept = {image: path.read_bytes() for image, path in changed.items()}
            for path in changed.values():
                overwrite(path, b"?" * path.stat().st_size)  # by another program
            ran = gateway.json("drain", code=Exit.SET_ASIDE)
            sent = set(ids) - bad - late
            compare(gateway, receiver, witness, {
                "received": set(ids), "waiting": late, "sending": set(), "set_aside": bad,
                "uploaded_local": sent, "uploaded_pruned": set(),
            })  # fmt: skip
            assert (ran["images"], ran["set_aside"], ran["deferred"]) == (len(sent), 2, 1)

            found = scraped(receiver)
            assert found["headgate_attempts_total confirmed"] == len(sent)
            assert found["headgate_confirmed_bytes_total"] == witness.of(sent)["bytes"]
            assert found["headgate_sent_bytes_total"] == ran["wire_bytes"]
            assert found["headgate_failures_total permanent"] == 2
            assert found["headgate_failures_total transient"] == 1
            assert found["headgate_runs_total done"] == 1
            assert found["headgate_refused_total unsupported_image"] == sum(
                witness.refused.values()
            )
            assert found["headgate_upload_duration_seconds_count"] >= IMAGES

            gateway.script.replace([])
            for image in bad:
                overwrite(file_of(gateway, image), kept[image])
            gateway.write(spool={"keep_done": "0s"})
            gateway.json("retry", *bad, *late)
            gateway.json("drain")  # prunes what the first one sent
            compare(gateway, receiver, witness, {
                "received": set(ids), "waiting": set(), "sending": set(), "set_aside": set(),
                "uploaded_local": bad | late, "uploaded_pruned": sent,
            })  # fmt: skip
            assert scraped(receiver)["headgate_runs_total done"] == 2
            assert len(gateway.objects()) == IMAGES
    finally:
        gateway.spool.close()


def compare(
    gateway: Gateway, receiver: Receiver, witness: Witness, states: dict[str, set[str]]
) -> None:
    page, status, found = assert_agree(
        gateway.config, lambda path: receiver.get(path).body.decode(), witness.sizes, states
    )
    for one in (page, status):
        assert {d["device"]: d["images"] for d in one["devices"]} == witness.devices
        told = {d["device"]: d["unusable"]["images"] for d in one["devices"]}
        assert {device: images for device, images in told.items() if images} == witness.refused
    for device, images in witness.refused.items():
        assert found[f"headgate_device_unusable_images_total {device}"] == images
    seen = {name for name in found if name.startswith("headgate_device_last_seen")}
    assert len(seen) == len(witness.devices)
    assert {one["id"] for one in page["aside"]} == states["set_aside"]
