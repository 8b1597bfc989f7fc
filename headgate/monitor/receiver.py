"""What the receiver says of itself, asked on this machine: nothing of that leaves it, so no rate is
charged."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field, replace
from typing import Any

from headgate.settings.settings import Settings
from headgate.spool.disk.room import DISK_TROUBLE, Admission
from headgate.spool.errors import LockHeld
from headgate.spool.spool import Spool

_ANSWER_SECONDS = 5.0


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
        """Whether it would take an image, beside what this program ``seen`` of the disk itself."""
        if self.silent:
            return replace(seen, accepting=False, code="", sentence=self.silent)
        code = str(self.problem.get("code", ""))
        if self.status == 200 or not code:
            return seen
        why = str(self.problem.get("why") or self.problem.get("detail", ""))
        return replace(seen, accepting=False, code=code, sentence=why)


def address(settings: Settings) -> tuple[str, int]:
    """Host and port at which this machine reaches it."""
    host, _, port = settings.receiver.bind.rpartition(":")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)


def ask(spool: Spool) -> ReceiverState:
    """Whether it is alive, and whether it would take an image of the largest size now."""
    host, port = address(spool.settings)
    try:
        if _get(host, port, "/healthz")[0] != 200:
            return ReceiverState(f"The receiver at {host}:{port} says that it is not well.")
        status, problem = _get(host, port, "/readyz")
    except (OSError, http.client.HTTPException) as error:
        try:
            spool.hold_receiver_lock(wait_seconds=0).release()
        except LockHeld:
            if port == 0:
                return ReceiverState()  # it runs, at a port that nobody wrote down
            why = str(error) or "it hung up"
            return ReceiverState(f"It runs, but does not answer at {host}:{port} ({why}).")
        return ReceiverState("It does not run, so no image can be received.")
    return ReceiverState("", status, problem)


def _get(host: str, port: int, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(64 * 1024)
    finally:
        connection.close()
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    return answer.status, said if isinstance(said, dict) else {}
