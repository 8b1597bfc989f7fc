"""The simulations of docs/SCALE.md: they run, keep the cap, and lose no image."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.simulate import __main__ as simulate
from bench.simulate import bucket
from bench.simulate.gateways import Uplink, share
from bench.simulate.site import Scenario, day


def test_a_day_in_small_keeps_the_cap_and_sends_each_image_once() -> None:
    scenario = Scenario(5, 600, 250_000, 1200, 40_000_000, 60, 600, ((100, 300),))
    seconds = [*day(scenario, random.Random(7).random)]
    came = 600 * 10
    assert max(second.sent for second in seconds) <= 40_000_000
    assert all(second.sent == 0 for second in seconds if 100 <= second.at < 300)
    assert sum(len(second.ages) for second in seconds) + seconds[-1].images == pytest.approx(
        came, abs=1
    )
    assert seconds[299].images == pytest.approx(2000, abs=100)  # all that came in the outage
    assert min(second.images for second in seconds[300:]) < 20  # and all that went after it


def test_sites_add_up_whatever_second_they_begin_in() -> None:
    assert bucket.summed([[1, 0, 2, 0]], 10, lambda _site: 0) == [10, 0, 20, 0]
    assert bucket.summed([[1, 0, 2, 0]], 10, lambda site: site % 2) == [5, 5, 10, 10]
    assert bucket.metrics_cost(10_000) == pytest.approx(3000)
    assert bucket.metrics_cost(260_000) == pytest.approx(3000 + 24_000 + 500)


def test_gateways_never_pass_the_cap_and_use_nearly_all_of_it() -> None:
    cap = 1_000_000
    uplink = Uplink(cap, cap // 8, [2 * cap, cap // 8, cap // 8, cap // 8], (50, 75))
    moments = [*share(uplink, 100, random.Random(3).random)]
    assert max(moment.sent for moment in moments) <= cap
    assert sum(moment.sent for moment in moments[30:50]) > 0.97 * 20 * cap
    floors = 4 * uplink.floor
    assert all(floors - 4 <= moment.sent <= floors for moment in moments[60:75])
    assert max(moments[49].backlogs[1:]) < cap // 10, "no other waits for it"


def test_the_plots_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--quick", "--out", str(tmp_path)]) == 0
    made = sorted(path.name for path in tmp_path.iterdir())
    page = (Path(__file__).parents[2] / "docs" / "SCALE.md").read_text()
    assert made and all(f"(scale/{name})" in page for name in made)
    for name in made:
        ET.parse(tmp_path / name)
    assert "highest backlog" in capsys.readouterr().out
