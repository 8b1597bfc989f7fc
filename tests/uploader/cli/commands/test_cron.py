"""``headgate cron``: what it prints, what it changes, and that crontab.txt is what it prints."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.paths import ROOT
from uploader.cli.cron import crontabs as cron
from uploader.cli.cron import entry as crontab_line
from uploader.cli.cron.entry import CronEntry
from uploader.cli.cron.trial import Trial
from uploader.cli.main import headgate

FOREIGN = b"MAILTO=ops@example.net\r\n\t# ours? no\n*/7 * * * * /bin/true  \n@reboot /x"


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The rehearsals that install asked for; they pass (test_cron.py is about what they refuse)."""
    asked: list[Trial] = []
    monkeypatch.setattr(Trial, "check", lambda self, _here: asked.append(self))
    return asked


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "headgate.toml"
    path.write_text('[uplink]\ninterval = "15min"\n')
    return path


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(headgate, arguments, prog_name="headgate")
    assert result.exit_code == code, result.output
    return result


def test_crontab_txt_is_what_show_prints_for_the_documented_paths() -> None:
    shown = call(
        "cron",
        "show",
        "--command",
        "/opt/headgate/bin/headgate",
        "--settings",
        "/etc/headgate/headgate.toml",
    )
    assert (ROOT / "crontab.txt").read_text() == shown.stdout


def test_show_prints_the_line_of_these_settings(config: Path) -> None:
    line = CronEntry(900, cron.own_command(), str(config))
    watch = CronEntry(60, line.headgate, line.config, task="watch")
    shown = call("cron", "show").stdout.splitlines()
    assert shown[1::2] == [crontab_line.make(line), crontab_line.make(watch)]
    assert json.loads(call("cron", "show", "--json").stdout) == {
        "line": crontab_line.make(line),
        "interval_seconds": 900,
        "watch_line": crontab_line.make(watch),
    }


def test_without_a_settings_file_show_says_what_to_write() -> None:
    assert "write headgate.toml" in call("cron", "show", code=1).stderr


def test_an_uneven_interval_is_refused(config: Path) -> None:
    refused = call("--set", "uplink.interval=7min", "cron", "show", code=1)
    assert "6min or 10min" in refused.stderr


def test_in_and_out_of_a_file_leaves_it_as_it_was(
    tmp_path: Path, config: Path, rehearsed: list[Trial]
) -> None:
    file = tmp_path / "tab"
    file.write_bytes(FOREIGN)
    where = ("--file", str(file), "--user", "root")

    would = call("cron", "install", *where, "--dry-run")
    assert f"would be added to {file}" in would.stdout
    assert file.read_bytes() == FOREIGN

    call("cron", "install", *where)
    inside = file.read_bytes()
    assert inside.startswith(FOREIGN + b"\n*/15 * * * * root ")
    assert rehearsed[-1].account.pw_name == "root"
    assert rehearsed[-1].environment["MAILTO"] == "ops@example.net"

    again = call("cron", "install", *where)
    assert "already has these lines" in again.stdout
    assert file.read_bytes() == inside

    config.write_text('[uplink]\ninterval = "1h"\n')
    replaced = call("cron", "install", *where)
    assert "replaces:\n*/15 * * * * root " in replaced.stdout
    assert b"\n@hourly root " in file.read_bytes()
    assert file.read_bytes().count(b"headgate.toml") == 2
    assert b"\n* * * * * root " in file.read_bytes()

    call("cron", "remove", *where, "--dry-run")
    assert file.read_bytes() != FOREIGN
    gone = json.loads(call("cron", "remove", *where, "--json").stdout)
    assert len(gone["removed"]) == 2
    assert file.read_bytes() == FOREIGN
    assert "no line of Headgate" in call("cron", "remove", *where).stdout


def test_a_file_needs_a_user(tmp_path: Path, config: Path, rehearsed: list[Trial]) -> None:
    refused = call("cron", "install", "--file", str(tmp_path / "tab"), code=1)
    assert "--user" in refused.stderr
    assert rehearsed == []


def test_nothing_is_installed_when_the_rehearsal_fails(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Trial, _here: object) -> None:
        raise crontab_line.CronError("the disk is full")

    monkeypatch.setattr(Trial, "check", refuse)
    file = tmp_path / "tab"
    refused = call("cron", "install", "--file", str(file), "--user", "root", code=1)
    assert "the disk is full" in refused.stderr
    assert not file.exists()


def test_with_a_queue_cron_has_the_floor(config: Path, rehearsed: list[Trial]) -> None:
    config.write_text(
        '[uplink]\ntrigger = "queue"\ninterval = "5min"\n'
        '[queue]\nfloor = "2h"\nbroker = "redis://127.0.0.1/0"\n'
    )
    shown = call("cron", "show").stdout
    assert "# Fallback runs (queue.floor): messages of the queue start the runs" in shown
    assert "\n0 */2 * * * " in shown
    tab = config.parent / "tab"
    said = call("cron", "install", "--file", str(tab), "--user", "root").stdout
    assert "0 */2 * * * root " in tab.read_text()
    assert "the queue starts the runs (uplink.trigger); this one, every 2h, runs" in said
    config.write_text('[uplink]\ninterval = "5min"\n')
    said = call("cron", "install", "--file", str(tab), "--user", "root").stdout
    assert "*/5 * * * * root " in tab.read_text()
    assert "the queue" not in said


def test_a_floor_that_cron_cannot_express_is_refused_by_its_own_name(config: Path) -> None:
    config.write_text(
        '[uplink]\ntrigger = "queue"\n[queue]\nfloor = "7h"\nbroker = "redis://127.0.0.1/0"\n'
    )
    assert "set queue.floor to 6h or 8h" in call("cron", "show", code=1).stderr
