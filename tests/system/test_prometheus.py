"""A real Prometheus scrapes a real receiver, as deploy/prometheus says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.app.live import PHOTOS, ROOT, running
from tests.prometheus import needs_prometheus, needs_promtool, scraping

DEPLOY = ROOT / "deploy" / "prometheus"


@needs_prometheus
def test_prometheus_reads_what_the_receiver_tells(tmp_path: Path) -> None:
    image = (PHOTOS / "rocket.jpg").read_bytes()
    with running(tmp_path, spool__keep_free="0B") as receiver:
        assert receiver.post_raw(image, X_Device="cam-1").status == 201
        with scraping(tmp_path, DEPLOY / "prometheus.yml", receiver.port) as prometheus:
            (up,) = prometheus.await_series('up{job="headgate"} == 1')
            assert up["metric"]["site"] == "site"
            (waiting,) = prometheus.await_series('headgate_images{state="waiting"}')
            assert waiting["value"][1] == "1"
            (seen,) = prometheus.await_series("headgate_device_last_seen_timestamp_seconds")
            assert seen["metric"]["device"] == "cam-1"
            assert not prometheus.query("headgate_unaccounted_images != 0")


def promtool(*words: str) -> None:
    ran = subprocess.run(["promtool", *words], cwd=DEPLOY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_promtool
def test_the_configuration_is_accepted() -> None:
    promtool("check", "config", "prometheus.yml")
