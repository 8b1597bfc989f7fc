"""The receiver's port, while another program listens there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from app.server import server
from headgate.host.addresses import Address
from tests.support.slept_clock import SleptClock


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """Another program's, shared as the old serving processes share theirs."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def address_of(listening: socket.socket) -> Address:
    host, port = listening.getsockname()
    return Address(host, port)


def test_a_port_that_a_killed_receiver_leaves_is_waited_for(
    other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, clock = address_of(other), SleptClock(other.close)
    monkeypatch.setattr(server, "time", clock)
    held, address = server.reserve(wanted)
    with held:
        assert address == wanted
        assert clock.now == pytest.approx(0.05)


def test_a_port_that_stays_taken_is_an_error_after_a_while(
    other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SleptClock()
    monkeypatch.setattr(server, "time", clock)
    with pytest.raises(OSError) as caught:
        server.reserve(address_of(other))
    assert caught.value.errno == errno.EADDRINUSE
    assert server.PATIENCE_SECONDS <= clock.now < server.PATIENCE_SECONDS + 1
    assert other.fileno() >= 0  # nothing was done to it


def test_an_address_that_is_not_ours_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SleptClock()
    monkeypatch.setattr(server, "time", clock)
    with pytest.raises(OSError):
        server.reserve(Address("192.0.2.1", 0))
    assert clock.now == 0
