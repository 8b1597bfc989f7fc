"""``headgate runs``, and what is suggested where a name is not known."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from tests.support.spooling import Clock, open_spool
from uploader.cli.commands import status
from uploader.cli.main import headgate


def call(path: Path, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--set", f"spool.path={path}", *words])


def test_runs_are_listed_newest_first_for_people_and_programs(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path, Clock())) as spool:
        path = spool.path
        assert "no run has started yet" in call(path, "runs").stdout
        for number in range(3):
            at = spool.now()
            spool.site.save_run(
                Run(f"r{number}", at, at, "cron", Outcome.DONE, 0, images=number, bytes=1000)
            )
    head, *rows = call(path, "runs", "--limit", "2").stdout.splitlines()
    assert head.split()[:2] == ["STARTED", "TOOK"] and len(rows) == 2
    assert [one["id"] for one in json.loads(call(path, "runs", "--json").stdout)] == [
        "r2",
        "r1",
        "r0",
    ]
    found = list(csv.DictReader(io.StringIO(call(path, "runs", "--csv").stdout)))
    assert [one["images"] for one in found] == ["2", "1", "0"]
    assert found[0]["started_at"].endswith("Z")


def test_a_status_is_shown_again_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_spool(tmp_path, Clock())) as spool:
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(status.time, "sleep", pause)
        shown = call(spool.path, "status", "--watch")
        assert (shown.exit_code, shown.stdout.count("received   0 images")) == (0, 3)
        assert call(spool.path, "status", "--watch", "--json").exit_code == 2


def test_a_word_that_is_not_known_gets_a_suggestion(tmp_path: Path) -> None:
    unknown = call(tmp_path, "statsu")
    assert unknown.exit_code == 2 and "Did you mean status?" in unknown.stderr
    state = call(tmp_path, "find", "--state", "wating")
    assert state.exit_code == 2 and "Did you mean waiting?" in state.stderr
    assert "Did you mean" not in call(tmp_path, "xyzzy").stderr
    setting = call(tmp_path, "--set", "uplink.shar=20%", "status")
    assert setting.exit_code == 2 and "did you mean uplink.share" in setting.stderr
