"""Calls of Redis end in time, and after one that failed there are none for a while."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from headgate.shared.connection import SharedTrouble
from headgate.shared.impatient import Breaker, ImpatientCaller
from tests.support.wait import join


def test_a_caller_does_not_wait_for_what_hangs_and_nothing_is_called_for_a_while() -> None:
    now, hangs, called = [100.0], threading.Event(), []

    def work() -> str:
        called.append(1)
        return "done"

    caller = ImpatientCaller(0.01, 5.0, lambda: now[0])
    with pytest.raises(SharedTrouble, match="in time"):
        caller.call(lambda: hangs.wait(60))
    with pytest.raises(SharedTrouble, match="a moment ago"):
        caller.call(work)
    now[0] += 5
    with pytest.raises(SharedTrouble, match="in time"):
        caller.call(work)  # behind what still hangs
    hangs.set()
    now[0] += 5
    patient = ImpatientCaller(60.0, 5.0, lambda: now[0])
    assert patient.call(work) == "done" and called == [1], "what was given up is not called late"


def test_after_a_pause_one_caller_tries_and_the_others_wait() -> None:
    now = [0.0]
    breaker = Breaker(5.0, lambda: now[0])
    assert breaker.lets_through() and breaker.lets_through()
    breaker.failed()
    assert not breaker.lets_through()
    now[0] = 5.0
    assert breaker.lets_through() and not breaker.lets_through(), "one tries"
    breaker.worked()
    assert breaker.lets_through() and breaker.lets_through()


def test_what_fails_is_raised_to_who_asked() -> None:
    def fails() -> None:
        raise SharedTrouble("Redis: no")

    with pytest.raises(SharedTrouble, match="Redis: no"):
        ImpatientCaller(60.0).call(fails)


def test_its_thread_ends_when_it_is_closed() -> None:
    with closing(ImpatientCaller(60.0)) as caller:
        thread = caller.call(threading.current_thread)
        assert thread is not threading.current_thread()
    join(thread)
