"""Services that neither Slack's webhook nor mail reaches, by a library that speaks many of them
(https://github.com/caronc/apprise); the extra ``apprise``.

It opens connections of its own, past the pacer. So what it will send is charged before it starts:
more than a message takes with TLS's handshake and HTTP's headers, paced like everything else.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass

from headgate.spool.site.alerts import Message
from uploader.alerts.channel import DeliveryError
from uploader.wire.meter import Meter

_HANDSHAKE = 16 * 1024
_ENCODED = 3  # bytes a byte of text may take in a URL, the most of all encodings
_KINDS = {"alert": "warning", "reminder": "warning", "recovery": "success", "test": "info"}


@dataclass(frozen=True, slots=True)
class Other:
    """A channel for one address in Apprise's form, such as ``tgram://token/chat``. It is a secret,
    so its name is its scheme and four digits of its digest, and no sentence has more of it."""

    url: str

    @property
    def name(self) -> str:
        digest = hashlib.sha256(self.url.encode()).hexdigest()
        return f"{self.url.partition(':')[0].lower()}-{digest[:4]}"

    def send(self, message: Message, pacer: Meter) -> None:
        """Make one attempt to send a message. DeliveryError."""
        try:
            import apprise
        except ImportError:
            raise DeliveryError(
                "alerts.apprise needs a library that is not installed: make install "
                "EXTRAS=apprise, or pip install 'headgate[apprise]'",
                dead=True,
            ) from None
        logging.getLogger("apprise").propagate = False  # its words are in the sentence below
        service = apprise.Apprise()
        with apprise.LogCapture(  # type: ignore[no-untyped-call]
            level=logging.WARNING, fmt="%(message)s"
        ) as said:
            if not service.add(self.url):
                raise DeliveryError(
                    f"an address of alerts.apprise ({self.name}) is not one that Apprise supports",
                    dead=True,
                )
            size = len(message.title.encode()) + len(message.text.encode())
            _charge(pacer, _HANDSHAKE + _ENCODED * size)
            taken = service.notify(
                title=message.title,
                body=message.text,
                notify_type=apprise.NotifyType(_KINDS.get(message.kind, "info")),
                body_format=apprise.NotifyFormat.TEXT,
            )
            why = said.getvalue() if not taken else ""
        if not taken:
            raise DeliveryError(
                f"{self.name} did not accept it ({_scrubbed(why, self.url)}); it will be retried"
            )


def _charge(pacer: Meter, size: int) -> None:
    while size > 0:
        piece = pacer.take(size)
        pacer.wrote(piece, piece.size)
        size -= piece.size


def _scrubbed(words: str, url: str) -> str:
    """The first line of what the library said, without any part of the address."""
    line = next((line.strip() for line in words.splitlines() if line.strip()), "it gave no reason")
    for part in re.split(r"[^A-Za-z0-9_.-]+", url)[1:]:
        if len(part) > 3:
            line = line.replace(part, "...")
    return "".join(c for c in line if c.isprintable())[:150]
