"""What the receiver says of itself, asked on this machine: nothing of that leaves it, so no rate is
charged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from headgate.host.addresses import NoAnswer, address_of, request
from headgate.settings.settings import Settings
from headgate.spool.disk.room import DISK_TROUBLE, Admission
from headgate.spool.errors import LockHeld
from headgate.spool.spool import Spool


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


def open_to_all(settings: Settings) -> bool:
    """Whether anyone on its network may send images."""
    said = settings.receiver
    return said.auth == "open" and not said.allow and not address_of(said.bind).is_loopback


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
