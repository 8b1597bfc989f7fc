"""What ``make run`` shows of its drains: what is news, and not that there was nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dev.run import Schedule
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.site.site import Site

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("outcome", "code", "shown"),
    [
        (Outcome.DONE, 0, ["2 uploaded"]),
        (Outcome.NOTHING_TO_DO, 0, []),
        (Outcome.NOTHING_TO_DO, 1, ["2 uploaded", "ended with exit code 1"]),  # before it was a run
    ],
)
def test_a_drain_is_shown_by_its_outcome_and_not_by_its_words(
    tmp_path: Path, outcome: Outcome, code: int, shown: list[str]
) -> None:
    path = tmp_path / "site.sqlite3"
    site = Site(path)
    site.save_run(Run("run", AT, AT, outcome=outcome, exit_code=0))
    site.close()
    seen: list[str] = []
    ended: Any = SimpleNamespace(lines=["headgate drain: 2 uploaded"], code=code, show=seen.append)
    schedule = Schedule({}, 15, path)
    schedule._tell(ended)
    schedule._tell(ended)  # the same again is no news
    assert seen == shown
