"""What is scraped: true, bounded, and in the format that Prometheus reads."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from app.refusals import REFUSALS
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from tests.support.spooling import Failing, open_spool

Photo = Callable[[], bytes]
RAW = {"Content-Type": "image/jpeg"}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, spool__keep_free="0B")
    yield opened
    opened.close()


def scraped(client: FlaskClient) -> dict[str, float]:
    """Every sample by its name and labels, as ``name{a=x}``."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_what_is_told_is_so(spool: Spool, photo: Photo) -> None:
    client = create_app(spool).test_client()
    image = photo()
    assert client.post("/images", data=image, headers=RAW).status_code == 201
    assert client.post("/images", data=b"none", headers=RAW).status_code == 415
    found = scraped(client)
    assert found["headgate_images{local=true,state=waiting}"] == 1
    assert found["headgate_image_bytes{local=true,state=waiting}"] == len(image)
    assert found["headgate_received_images_total"] == 1
    assert found["headgate_received_bytes_total"] == len(image)
    assert found["headgate_unaccounted_images"] == 0
    assert found["headgate_refused_total{reason=unsupported_image}"] == 1
    assert found["headgate_refused_total{reason=disk_full}"] == 0
    assert found["headgate_upload_duration_seconds_count"] == 1
    assert found["headgate_disk_trusted"] == 1
    assert found["headgate_reserved_bytes"] == 0
    assert found["headgate_disk_free_bytes"] > 0


def test_it_says_that_the_disk_is_not_trusted(tmp_path: Path, photo: Photo) -> None:
    from headgate.settings.load import load

    flags = {"spool.path": str(tmp_path), "spool.keep_free": "0B"}
    failing = Failing.open(load(None, flags, {}))
    assert isinstance(failing, Failing)
    try:
        failing.step = "accept"
        client = create_app(failing).test_client()
        assert client.post("/images", data=photo(), headers=RAW).status_code == 503
        found = scraped(client)
        assert found["headgate_disk_trusted"] == 0
        assert found["headgate_refused_total{reason=disk_trouble}"] == 1
    finally:
        failing.close()


def test_labels_are_bounded_whatever_is_sent(spool: Spool, photo: Photo) -> None:
    client = create_app(spool).test_client()
    client.post("/images", data=photo(), headers={**RAW, "X-Device": "cam-1"})
    before = set(scraped(client))
    for number in range(30):
        client.post(f"/images/{number}")
        client.post("/images", data=b"x", headers={**RAW, "X-Device": f"cam-{number}"})
        client.get(f"/problems/{number}")
    assert set(scraped(client)) == before
    assert sum("headgate_refused_total" in name for name in before) == len(REFUSALS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(spool: Spool, photo: Photo) -> None:
    client = create_app(spool).test_client()
    assert client.post("/images", data=photo(), headers=RAW).status_code == 201
    spool.site.save_run(Run("r1", spool.now(), spool.now(), outcome='a "b"\\ \n', exit_code=0))
    text = client.get("/metrics").data
    assert b"headgate_runs_total{" in text and b"headgate_disk_written_bytes_per" in text
    ran = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
