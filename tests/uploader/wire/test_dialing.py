"""A name with addresses that lead nowhere is reached by the one that answers (RFC 8305)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.wait import join
from uploader.wire import dialing
from uploader.wire.connection import BrokenOff, Cutoff
from uploader.wire.dialing import connect

PATIENCE = 600.0  # seconds for one address: what is waited for in turn never ends within a test


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address whose kernel drops each attempt to connect: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()


@pytest.fixture
def refused() -> Iterator[tuple[str, int]]:
    """An address at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    dialing._good.clear()
    yield
    dialing._good.clear()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses to which a connection was begun."""
    addresses: list[Any] = []
    inner = dialing._Attempts._begin

    def begin(attempts: Any, poll: Any, now: float) -> Any:
        addresses.append(attempts._waiting[0][4])
        return inner(attempts, poll, now)

    monkeypatch.setattr(dialing._Attempts, "_begin", begin)
    return addresses


Resolve = Callable[..., None]


@pytest.fixture
def resolves_to(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    def to(*addresses: tuple[str, int]) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one) for one in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: found)

    return to


def within(question: Callable[[], Any]) -> Any:
    """Its answer, or what it raised, long before the patience for one address ends."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(question())
        except (OSError, BrokenOff) as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    join(thread)
    return found[0]


def dial(timeout: float = PATIENCE, cutoff: Cutoff | None = None) -> Any:
    return within(
        lambda: connect("s3.example.net", 9, timeout=timeout, stall=PATIENCE, cutoff=cutoff)
    )


def test_an_address_that_leads_nowhere_does_not_hold_up_the_next_one(
    listener: socket.socket, silent: tuple[str, int], resolves_to: Resolve, begun: list[Any]
) -> None:
    good = listener.getsockname()
    resolves_to(silent, good)
    with dial() as sock:
        assert sock.getpeername() == good and not sock.getblocking()
    assert begun == [silent, good]
    with dial() as sock:  # which one answered is remembered
        assert sock.getpeername() == good
    assert begun == [silent, good, good]


def test_after_a_refusal_the_next_one_follows(
    listener: socket.socket, refused: tuple[str, int], resolves_to: Resolve
) -> None:
    resolves_to(refused, refused, listener.getsockname())
    with dial() as sock:
        assert sock.getpeername() == listener.getsockname()


def test_the_remembered_one_may_die(
    listener: socket.socket, refused: tuple[str, int], resolves_to: Resolve
) -> None:
    dialing._good["s3.example.net", 9] = refused
    resolves_to(listener.getsockname(), refused)
    with dial() as sock:
        assert sock.getpeername() == listener.getsockname()
    assert dialing._good["s3.example.net", 9] == listener.getsockname()


def test_where_none_answers_the_first_failure_is_told(
    silent: tuple[str, int], refused: tuple[str, int], resolves_to: Resolve, begun: list[Any]
) -> None:
    resolves_to(refused, refused)
    assert isinstance(dial(), ConnectionRefusedError)
    resolves_to(*[silent] * 100)
    begun.clear()
    assert isinstance(dial(timeout=0.2), TimeoutError)
    assert 1 <= len(begun) < 20  # one bound for all of them
    resolves_to()
    assert "no address" in str(dial())


def test_what_waits_for_a_connection_can_be_broken_off(
    silent: tuple[str, int], resolves_to: Resolve
) -> None:
    resolves_to(silent, silent)
    cutoff = Cutoff()
    timer = threading.Timer(0.1, cutoff.set)
    timer.start()
    assert isinstance(dial(cutoff=cutoff), BrokenOff)
    join(timer)


def test_families_take_turns() -> None:
    def one(family: int, name: str) -> Any:
        return (family, socket.SOCK_STREAM, 6, "", name)

    six, four = socket.AF_INET6, socket.AF_INET
    found = [one(six, "a"), one(six, "b"), one(six, "c"), one(four, "d"), one(four, "e")]
    assert [entry[4] for entry in dialing._in_turn(found, None)] == ["a", "d", "b", "e", "c"]
    assert [entry[4] for entry in dialing._in_turn(found, "e")] == ["e", "a", "d", "b", "c"]
