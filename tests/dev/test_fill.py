"""A spool that is filled to look at the page: every image accounted for, and something wrong."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dev.fill import fill
from headgate.monitor.collect import snapshot
from headgate.spool.spool import Spool
from tests.support.spooling import settings_for


def test_a_broken_site_has_an_alert_and_images_in_each_state(tmp_path: Path) -> None:
    fill(tmp_path, 9, 4, broken=True)
    with closing(Spool.open(settings_for(tmp_path, spool__path="spool"), create=False)) as spool:
        facts = snapshot(spool)
        assert [alert.code for alert in facts.alerts] == ["uplink-down"]
        assert facts.unaccounted == 0 and facts.received.images >= 9
        assert facts.set_aside.images and facts.waiting.images
