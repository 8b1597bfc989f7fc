"""Turns at computing: one at a time, never for long, and never needed."""

from __future__ import annotations

import threading

import pytest

from headgate.spool.disk.cpu_turns import CpuTurns


def in_thread(act: object) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_one_has_a_turn_and_the_next_waits_for_its_end() -> None:
    lane = CpuTurns(patience_seconds=60)
    order: list[str] = []
    with lane:
        other = in_thread(lambda: (lane.enter(), order.append("other"), lane.leave()))
        order.append("first")
    other.join(120)
    assert order == ["first", "other"]


def test_who_waits_for_something_lets_another_in_and_comes_back() -> None:
    lane = CpuTurns(patience_seconds=60)
    with lane:
        with lane.waiting:
            other = in_thread(lambda: lane.enter())
            other.join(120)
            assert not other.is_alive()
            # The other one ended with its turn; only who has a turn can end it.
            assert not lane.leave()
            lane._lock.release()
        assert lane.leave()


def test_a_turn_that_does_not_end_holds_nobody_up_for_long() -> None:
    lane = CpuTurns(patience_seconds=0.01)
    with lane:
        passed = threading.Event()

        def impatient() -> None:
            with lane:  # waits, and goes on without one
                with lane.waiting:
                    pass
            passed.set()

        in_thread(impatient)
        assert passed.wait(60)
        assert lane.leave(), "whoever had none took none away"


def test_waiting_outside_of_a_turn_takes_none() -> None:
    lane = CpuTurns(patience_seconds=60)
    with lane.waiting:
        pass
    other = in_thread(lambda: (lane.enter(), lane.leave()))
    other.join(120)
    assert not other.is_alive()


def test_an_error_ends_the_turn() -> None:
    lane = CpuTurns(patience_seconds=60)
    with pytest.raises(OSError), lane:
        with lane.waiting:
            raise OSError
    assert lane._lock.acquire(blocking=False)


def test_many_threads_are_never_two_in_it() -> None:
    lane = CpuTurns(patience_seconds=60)
    inside: list[int] = []
    most = 0

    def work() -> None:
        nonlocal most
        for _ in range(200):
            with lane:
                inside.append(1)
                most = max(most, len(inside))
                inside.pop()
                with lane.waiting:
                    pass

    threads = [in_thread(work) for _ in range(8)]
    for thread in threads:
        thread.join(120)
    assert most == 1
    assert not any(thread.is_alive() for thread in threads)
