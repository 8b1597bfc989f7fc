"""What the receiver says of itself, asked on this machine: nothing of that leaves it, so no rate is
charged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from headgate.host.addresses import NoAnswer, address_of, request
from headgate.spool.disk.room import DISK_TROUBLE, Admission
from headgate.spool.errors import LockHeld
from headgate.spool.spool import Spool

PROXIED = "proxied_without_token"
"""The site's memory of when a request with a proxy's header was last served without a token."""
_PROXY_REMEMBERED = 7 * 86_400


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """``silent``: why it seems not to answer. Else ``status`` and ``problem`` are /readyz's."""

    silent: str = ""
    status: int = 200
    problem: dict[str, Any] = field(default_factory=dict)

    @property
    def disk_trouble(self) -> str:
        """Why its disk is not trusted; empty if it is."""
        if self.status == 200 or self.problem.get("code") != DISK_TROUBLE:
            return ""
        return str(self.problem.get("why") or self.problem.get("detail", ""))

    def admission(self, seen: Admission) -> Admission:
        """Whether it would accept an image, combined with what this program has ``seen`` of the
        disk."""
        if self.silent:
            return replace(seen, accepting=False, code="", sentence=self.silent)
        code = str(self.problem.get("code", ""))
        if self.status == 200 or not code:
            return seen
        why = str(self.problem.get("why") or self.problem.get("detail", ""))
        return replace(seen, accepting=False, code=code, sentence=why)


def open_to_all(spool: Spool) -> bool:
    """Whether anyone on its network, or beyond a proxy on this machine, may send images."""
    said = spool.settings.receiver
    if said.auth != "open":
        return False
    by_itself = not said.allow and not address_of(said.bind).is_loopback
    return by_itself or behind_proxy(spool)


def behind_proxy(spool: Spool) -> bool:
    """Whether a request came through a proxy in the last week, and was served without a token. To
    the receiver all of them come from this machine, so only the proxy decides who may send."""
    seen = spool.site.get(PROXIED)
    return seen is not None and abs(spool.now().timestamp() - seen) < _PROXY_REMEMBERED


def ask(spool: Spool) -> ReceiverState:
    """Whether it is alive, and whether it would take an image of the largest size now."""
    address = address_of(spool.settings.receiver.bind).from_here
    try:
        if request(address, "GET", "/healthz")[0] != 200:
            return ReceiverState(f"The receiver at {address} reports that it is not healthy.")
        status, problem = request(address, "GET", "/readyz")
    except NoAnswer as error:
        try:
            spool.hold_receiver_lock(wait_seconds=0).release()
        except LockHeld:
            if address.port == 0:
                return ReceiverState()  # it runs, at a port that no one wrote down
            return ReceiverState(f"It runs, but does not answer at {address} ({error}).")
        return ReceiverState("It does not run, so no image can be received.")
    return ReceiverState("", status, problem or {})
