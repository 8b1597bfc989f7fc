"""``make headline`` starts what cron would start. All of it needs minutes and a server."""

from __future__ import annotations

from pathlib import Path

from bench.headline import Cron


def test_a_line_of_cron_is_started_as_cron_does(tmp_path: Path) -> None:
    """By sh, in a bare environment, with its escaped percent signs."""
    line = f'*/5 * * * * printf "\\%s" "$HOME $PATH" > {tmp_path / "said"} # headgate'
    cron = Cron(line, tmp_path, 5)
    cron.start()
    cron.finish()
    assert (tmp_path / "said").read_text() == f"{tmp_path} /usr/bin:/bin"
    assert cron.started == 1
