"""A real Prometheus scrapes a real receiver, as deploy/prometheus says."""

from __future__ import annotations

import email.utils
import json
import re
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from tests.support.paths import PHOTOS, ROOT
from tests.support.prometheus import needs_prometheus, needs_promtool, scraping
from tests.support.receiver import running
from tests.support.spooling import settings_for

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


@needs_promtool
def test_each_alert_fires_on_its_cause_after_its_time_and_not_before() -> None:
    promtool("check", "rules", "headgate.rules.yml")
    promtool("test", "rules", "headgate.rules.test.yml")
    rules = set(re.findall(r"- alert: (\w+)", (DEPLOY / "headgate.rules.yml").read_text()))
    tested = (DEPLOY / "headgate.rules.test.yml").read_text()
    firing = re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tested)
    assert rules == set(firing)


def test_rules_and_panels_ask_for_metrics_that_there_are() -> None:
    design = (ROOT / "docs" / "DESIGN.md").read_text()
    texts = [(DEPLOY / "headgate.rules.yml").read_text(), *queries()]
    asked = {name for text in texts for name in re.findall(r"\bheadgate_[a-z_]+", text)}
    known = set(re.findall(r"`(headgate_[a-z_]+)`", design))
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= known


# -- Grafana's dashboard

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "headgate.json").read_text())


def queries() -> list[str]:
    """Of every panel, with its variables filled in as "All" fills them in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [query.replace("$site", ".*").replace("$device", ".*") for query in found]


def test_the_first_panel_answers_whether_images_are_lost() -> None:
    first = DASHBOARD["panels"][0]
    assert (first["title"], first["gridPos"]["x"], first["gridPos"]["y"]) == (
        "Are we losing images?", 0, 0,
    )  # fmt: skip
    assert "headgate_unaccounted_images" in first["targets"][0]["expr"]
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} >= {"site", "device"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_last_panels_add_up_the_gateways_of_each_site() -> None:
    panels = [one for one in DASHBOARD["panels"] if one["title"].startswith("Site: ")]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(panels) == 5 and all(re.match(r"(sum|count) by \(site\b", one) for one in asked)


@needs_prometheus
def test_every_panel_shows_something_of_a_receiver_at_work(tmp_path: Path) -> None:
    image = (PHOTOS / "rocket.jpg").read_bytes()
    with running(tmp_path, spool__keep_free="0B") as receiver:
        now = time.time()
        with scraping(tmp_path, DEPLOY / "prometheus.yml", receiver.port) as prometheus:
            settings = settings_for(tmp_path, spool__path=str(receiver.spool))
            with closing(Spool.open(settings, create=False, probe=False)) as spool:
                for number in range(2):
                    date = email.utils.formatdate(now + number, usegmt=True)
                    sent = receiver.post_raw(
                        image + b"%d" % number,
                        X_Device="cam-1",
                        X_Sequence=str(3 * number),
                        Date=date,
                    )
                    assert sent.status == 201
                    at = spool.now()
                    run = Run(f"r{number}", at, at, "cron", Outcome.DONE, 0, images=1)
                    spool.site.save_run(replace(run, attempts=1, confirmed_at=at))
                    prometheus.await_series(f"headgate_received_images_total == {number + 1}")
            for query in queries():
                prometheus.await_series(query)
