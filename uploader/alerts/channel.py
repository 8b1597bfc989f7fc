"""The ways in which a message reaches people; each makes one attempt, and says what came of it.

Slack's webhook and mail are spoken with the standard library over the metered wire: what these two
need is one POST and one ``smtplib`` session. Other services are spoken by a library that opens its
own connections, past the pacer, and are charged beforehand (``others``).
"""

from __future__ import annotations

from typing import Protocol

from headgate.spool.site.alerts import Message
from uploader.wire.meter import Meter


class DeliveryError(Exception):
    """The message was not delivered; the sentence says why.

    ``wait_seconds``: the server's own word on when to come back. ``dead``: it will be the same
    until a person changes something. ``unfit``: this one message is refused, others are not.
    """

    def __init__(
        self, why: str, *, wait_seconds: float = 0.0, dead: bool = False, unfit: bool = False
    ) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds
        self.dead = dead
        self.unfit = unfit


class Channel(Protocol):
    """A way in which messages reach people."""

    @property
    def name(self) -> str:
        """What people and the outbox call it."""

    def send(self, message: Message, pacer: Meter) -> None:
        """Make one attempt to send a message; every byte passes the pacer. DeliveryError, or what
        the pacer raises."""
