"""``headgate pause`` and ``resume`` for programs."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from tests.support.spooling import open_spool
from uploader.cli.main import headgate


def test_a_program_reads_what_a_pause_and_its_end_changed(tmp_path: Path) -> None:
    opened = open_spool(tmp_path)
    opened.close()

    def said(*words: str) -> dict[str, object]:
        where = ("--set", f"spool.path={opened.path}")
        ran = CliRunner().invoke(headgate, [*where, *words, "--json"])
        assert ran.exit_code == 0, ran.output
        found: dict[str, object] = json.loads(ran.stdout)
        return found

    paused = said("pause", "--reason", "line")
    assert paused == {"paused": True, "until": None, "reason": "line"}
    assert str(said("pause", "--for", "1h")["until"]).endswith("Z")
    assert said("resume")["was_paused"] is True
    assert said("resume")["was_paused"] is False
