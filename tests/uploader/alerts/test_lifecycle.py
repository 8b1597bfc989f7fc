"""When something is said: once, with patience, rarely again, and never more than three an hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.monitor.rules import AlertCondition, AlertRule, Level
from headgate.spool.site.alerts import Alert, Silence
from uploader.alerts.lifecycle import Counts, Event, MessageKind, step

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
WARN = Level.WARN
RULES = {
    rule.code: rule
    for rule in (
        AlertRule("now", WARN, "Now", "It is.", "x", calm_seconds=0),
        AlertRule("patient", WARN, "Patient", "It is.", "x", wait_seconds=600, calm_seconds=300),
        AlertRule("cause", WARN, "Cause", "It is.", "x", calm_seconds=0),
        AlertRule(
            "effect",
            Level.WARN,
            "Effect",
            "It is.",
            "x",
            wait_seconds=600,
            calm_seconds=0,
            causes=("cause",),
        ),
    )
}


class Watch:
    """Alerts over time, and everything that was said of them."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.said: list[tuple[datetime, str, MessageKind]] = []
        self.now = AT
        self.silences: Sequence[Silence] = ()

    def look(self, *wrong: str, after: float = 0) -> list[Event]:
        """One look, ``after`` seconds; ``wrong``: "code" or "code:subject"."""
        self.now += timedelta(seconds=after)
        found = [
            AlertCondition(what.partition(":")[0], what, what.partition(":")[2]) for what in wrong
        ]
        self.alerts, events = step(self.alerts, found, self.now, self.silences, Counts(), RULES)
        self.said += [(self.now, f"{e.alert.code}:{e.alert.subject}", e.kind) for e in events]
        return events

    def kinds(self) -> list[MessageKind]:
        return [kind for _, _, kind in self.said]


def test_it_is_said_once_and_once_that_it_is_good_again() -> None:
    watch = Watch()
    for _ in range(10):
        watch.look("now", after=60)
    for _ in range(10):
        watch.look(after=60)
    assert watch.kinds() == [MessageKind.ALERT, MessageKind.RECOVERY]
    threads = {alert.thread for alert in watch.alerts}
    assert len(threads) == 1 and threads != {""}


def test_what_passes_before_its_time_is_never_said() -> None:
    watch = Watch()
    for _ in range(9):
        watch.look("patient", after=60)
    for _ in range(6):
        watch.look(after=60)
    for _ in range(9):  # another time, not the rest of the first one
        watch.look("patient", after=60)
    assert watch.said == []
    watch.look("patient", after=120)
    assert watch.kinds() == [MessageKind.ALERT]


def test_what_comes_and_goes_all_the_time_is_said_all_the_same() -> None:
    """A minute of calm is not yet good: its patience goes on."""
    watch = Watch()
    for number in range(14):
        watch.look(*["patient"] * (number % 2 == 0), after=60)
    assert watch.kinds() == [MessageKind.ALERT]


def test_reminders_come_rarely_and_more_rarely() -> None:
    watch = Watch()
    for _ in range(60 * 80):
        watch.look("now", after=60)
    hours = [(at - AT).total_seconds() / 3600 for at, _, _ in watch.said]
    gaps = [round(b - a) for a, b in pairwise(hours)]
    assert gaps == [4, 8, 16, 24, 24]
    assert watch.kinds() == [MessageKind.ALERT, *[MessageKind.REMINDER] * 5]


def test_five_hundred_flips_in_an_hour_give_at_most_three_messages() -> None:
    watch = Watch()
    for number in range(1000):
        watch.look(*["now"] * (number % 2 == 0), after=3.6)
    assert watch.kinds() == [MessageKind.ALERT, MessageKind.RECOVERY, MessageKind.ALERT]
    watch.look(after=3600)
    assert watch.kinds()[3:] == [MessageKind.RECOVERY]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 900)), max_size=120), st.booleans())
def test_never_more_than_three_in_any_hour_and_never_the_same_twice(
    looks: list[tuple[bool, int]], last: bool
) -> None:
    watch = Watch()
    for wrong, after in looks:
        watch.look(*["now"] * wrong, after=after)
    for _ in range(70):  # whatever came before, the last word becomes the truth
        watch.look(*["now"] * last, after=60)
    times = [at for at, _, _ in watch.said]
    for at in times:
        within = [other for other in times if at <= other < at + timedelta(hours=1)]
        assert len(within) <= 3
    turns = [kind for kind in watch.kinds() if kind is not MessageKind.REMINDER]
    assert all(a is not b for a, b in pairwise(turns))
    assert (turns or [MessageKind.RECOVERY])[-1] is (
        MessageKind.ALERT if last else MessageKind.RECOVERY
    )


def test_a_cause_silences_its_consequences_and_gives_them_time_afterwards() -> None:
    watch = Watch()
    effects = [f"effect:cam-{number}" for number in range(40)]
    for _ in range(120):
        watch.look("cause", *effects, after=60)
    assert [what for _, what, _ in watch.said] == ["cause:"]
    for _ in range(9):
        watch.look(*effects, after=60)
    assert watch.kinds() == [MessageKind.ALERT, MessageKind.RECOVERY]
    said = [event for _ in range(3) for event in watch.look("effect:cam-7", after=60)]
    assert [event.alert.subject for event in said] == ["cam-7"]  # still silent: that is news


def test_a_silence_ends_by_itself() -> None:
    watch = Watch()
    watch.silences = [Silence("now:a", AT + timedelta(hours=1))]
    for _ in range(59):
        watch.look("now:a", "now:b", after=60)
    assert [what for _, what, _ in watch.said] == ["now:b"]
    watch.look("now:a", "now:b", after=120)
    assert [what for _, what, _ in watch.said] == ["now:b", "now:a"]


@pytest.mark.parametrize("what", ["all", "now", "now:a"])
def test_what_a_silence_may_name(what: str) -> None:
    watch = Watch()
    watch.silences = [Silence(what, AT + timedelta(hours=1))]
    assert watch.look("now:a", after=60) == []


def test_a_clock_that_was_set_back_delays_nothing() -> None:
    watch = Watch()
    watch.look("patient")
    watch.now = AT - timedelta(days=400)
    watch.look("patient")
    watch.look("patient", after=600)
    assert watch.kinds() == [MessageKind.ALERT]
    watch.now -= timedelta(days=30)
    watch.look()
    watch.look(after=300)
    watch.look(after=3600)
    assert watch.kinds() == [MessageKind.ALERT, MessageKind.RECOVERY]


def test_nothing_is_remembered_of_what_is_long_over() -> None:
    watch = Watch()
    watch.look("now")
    watch.look(after=60)
    assert len(watch.alerts) == 1
    watch.look(after=3700)
    assert watch.alerts == []
