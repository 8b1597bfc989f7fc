"""The metrics that a run leaves for node_exporter."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from headgate.monitor.textfile import leave_metrics
from headgate.settings.settings import SettingsError
from tests.support.spooling import Disk, open_spool, put, settings_for


def test_a_run_leaves_them_whole_and_readable(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, metrics__textfile="out/headgate.prom")
    try:
        put(spool, b"image")
        leave_metrics(spool)  # there is no such folder, and the run goes on
        (tmp_path / "out").mkdir()
        leave_metrics(spool)
        file = tmp_path / "out" / "headgate.prom"
        first = file.read_text()
        assert '\nheadgate_images{state="waiting",local="true"} 1\n' in first
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        for nth in range(1, 6):
            put(spool, b"image %d" % nth)
            with Disk(nth=nth)() as disk:
                leave_metrics(spool)
            if not disk.fired:
                break
            last = file.read_text().splitlines()[-1]
            assert re.fullmatch(r'headgate_build_info\{version=".*",sqlite="3\.[0-9.]+"\} 1', last)
            assert [path.name for path in file.parent.iterdir()] == ["headgate.prom"]
        if shutil.which("promtool"):
            check = ["promtool", "check", "metrics"]
            assert subprocess.run(check, input=file.read_bytes()).returncode == 0
    finally:
        spool.close()


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    before = sorted(tmp_path.rglob("*.prom"))
    leave_metrics(spool)
    spool.close()
    assert sorted(tmp_path.rglob("*.prom")) == before == []


def test_a_name_that_the_collector_would_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ends in \.prom"):
        settings_for(tmp_path, metrics__textfile="out/headgate.txt")
