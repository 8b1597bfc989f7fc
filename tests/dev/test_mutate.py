"""What ``make mutate`` reads out of cosmic-ray's session."""

from __future__ import annotations

import json

from dev import mutate


def line(outcome: str, removed: str, added: str) -> str:
    change = {"module_path": "headgate/a.py", "operator_name": "core/NumberReplacer",
              "start_pos": [7, 1]}  # fmt: skip
    diff = f"--- before\n+++ after\n@@ -7 +7 @@\n context\n-{removed}\n+{added}\n"
    result = {"worker_outcome": "normal", "test_outcome": outcome, "diff": diff}
    return json.dumps([{"mutations": [change]}, result])


def test_changes_are_counted_and_those_that_no_test_noticed_are_shown() -> None:
    skipped = [{"mutations": [{}]}, {"worker_outcome": "skipped"}]
    dump = [
        line("killed", "a = 1", "a = 2"),
        line("survived", "b = 1", "b = 2"),
        line("survived", "@dataclass(frozen=True)", "@dataclass(frozen=False)"),
        json.dumps(skipped),
        json.dumps([{"mutations": [{}]}, None]),
    ]
    made, missed = mutate.read("\n".join(dump))
    assert made == 2
    assert missed == ["headgate/a.py:7 NumberReplacer\n-b = 1\n+b = 2"]


def test_a_module_has_the_tests_of_its_name() -> None:
    assert mutate.tests_of("headgate/spool/budget/slots.py") == (
        "tests/headgate/spool/budget/test_slots.py"
    )
