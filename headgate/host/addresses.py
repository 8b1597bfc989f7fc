"""Addresses as ``receiver.bind`` writes them, and HTTP requests to this machine itself."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from headgate.host.foreign_json import read_json_object

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_ANSWER_MAX = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen on; port 0 stands for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self}/"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def from_here(self) -> Address:
        """The address at which this machine itself reaches what listens there."""
        return Address(_ANYWHERE.get(self.host, self.host), self.port)


def address_of(bind: str) -> Address:
    """The address that a text like ``127.0.0.1:8080`` or ``[::1]:8080`` names."""
    host, _, port = bind.rpartition(":")
    return Address(host.strip("[]"), int(port))


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class NoAnswer(Exception):
    """No HTTP answer came; ``listens``: whether something accepted the connection."""

    def __init__(self, reason: str, *, listens: bool) -> None:
        super().__init__(reason)
        self.listens = listens


def request(
    address: Address, method: str, path: str, body: bytes = b"", *, media_type: str = "",
    seconds: float = 5.0,
) -> tuple[int, dict[str, Any] | None]:  # fmt: skip
    """The status of one answer, and its JSON object (None if it is something else); NoAnswer."""
    import http.client  # and all of email and ssl, which the receiver's supervisor spares itself

    connection = http.client.HTTPConnection(address.host, address.port, timeout=seconds)
    listens = False
    try:
        connection.connect()
        listens = True
        connection.request(method, path, body, {"Content-Type": media_type} if media_type else {})
        answer = connection.getresponse()
        text = answer.read(_ANSWER_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(str(error) or "it hung up", listens=listens) from error
    finally:
        connection.close()
    return answer.status, read_json_object(text or b"{}")
