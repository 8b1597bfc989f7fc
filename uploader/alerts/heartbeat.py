"""Pings an external monitor when a run starts and ends, as healthchecks.io expects it: the
URL with /start, and with /<exit code> (https://healthchecks.io/docs/http_api/).

It is sent in parallel to the run and never holds one up or fails one. The ping at the end is tried
three times, as healthchecks.io asks for, unless the run has just found the uplink down; after that
the next run's says more.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit, urlunsplit

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.spool import Spool
from uploader.wire.errors import SendError
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_LOCK_SECONDS = 2.0
_AGAIN_AFTER = (1.0, 3.0)


def address(url: str, word: str) -> str:
    """The URL of the ping for ``word``."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{word}"))


class Heartbeat:
    """Sends the pings of one run."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._url = spool.settings.alerts.heartbeat_url
        self._first: threading.Thread | None = None

    def start(self) -> None:
        """The run starts; returns at once."""
        if self._url:
            self._first = threading.Thread(
                target=self._ping, args=("start",), name="heartbeat", daemon=True
            )
            self._first.start()

    def end(self, exit_code: int) -> None:
        """The run ended; after the ping of its start, so that they arrive in order."""
        if self._first is not None:
            self._first.join()
            waits = () if exit_code == Exit.UPLINK_DOWN else _AGAIN_AFTER
            for wait in (0.0, *waits):
                time.sleep(wait)
                if self._ping(str(exit_code)):
                    break

    def _ping(self, word: str) -> bool:
        """Send a ping; whether it arrived."""
        from uploader.wire import one_shot  # a run without a heartbeat does not pay for it

        try:
            with other_traffic_pacer(
                self._spool.uplink, "headgate drain (heartbeat)", _LOCK_SECONDS
            ) as pacer:
                answer = one_shot.ask(
                    "GET", address(self._url, word), pacer, patience=one_shot.HASTE
                )
            if 200 <= answer.status < 300:
                return True
            logs.get().warning("heartbeat.failed", ping=word, why=f"it answered {answer.status}")
        except (SendError, LockHeld, Closed, DiskError, OSError) as error:
            logs.get().warning("heartbeat.failed", ping=word, why=str(error))
        return False
