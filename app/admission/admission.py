"""What is checked before an upload: who sends, how often, whether there is room, whether it runs.

All of it is asked before a byte of the body is read; what an upload was promised it holds until its
request ends, however that ends.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from app.admission import auth, checks, digest
from app.admission.auth import Caller, Principal
from app.admission.disk_breaker import Latch
from app.admission.rate_limits import Intake, Rates
from app.admission.reservations import Reservation, Reservations
from app.refusals import Refused
from headgate.host.addresses import address_of
from headgate.host.hostnames import own_names
from headgate.host.logs import get as get_log
from headgate.intake import hand_over
from headgate.monitor import collect
from headgate.monitor.receiver import PROXIED
from headgate.monitor.snapshot import Snapshot
from headgate.spool.disk import room
from headgate.spool.disk.room import Admission, Receiving
from headgate.spool.site.devices import Credential
from headgate.spool.spool import Spool

_NOTE_PROXY_SECONDS = 3600


class Gate:
    """One a receiver. Thread-safe."""

    def __init__(
        self,
        spool: Spool,
        stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        settings = spool.settings
        board = spool.board
        self.latch = Latch(spool.probe, self._opened, board)
        self.reservations = Reservations(board)
        self.rates = Rates(
            settings.receiver.device_rate,
            settings.receiver.device_parallel,
            monotonic,
            board,
        )
        self.intake = Intake(settings.receiver.intake, monotonic, board)
        self._on_network = not address_of(settings.receiver.bind).is_loopback
        self._local_key = str(spool.site.get(hand_over.KEY) or "")
        self._hosts = frozenset(settings.receiver.hosts) or own_names()
        self._spool = spool
        self._proxy_noted_at = 0.0
        self._stopping = stopping
        self._chance = chance

    @property
    def stopping(self) -> bool:
        """Whether the receiver is about to stop."""
        return self._stopping()

    def identify(self, caller: Caller) -> Principal:
        """Who sent this request; Refused if the sender has no permission."""
        if auth.is_local(caller, self._local_key):
            return Principal(is_local=True)
        receiver = self._spool.settings.receiver
        devices = self._spool.site.devices
        try:
            sender = auth.identify(
                caller,
                receiver.auth,
                receiver.allow,
                lambda token: devices.authenticate(token, self._spool.now()),
                by_digest=self._by_digest,
                names=self._hosts,
                url_tokens=receiver.token_in_url,
                on_network=self._on_network,
                enrolled=lambda: devices.any_valid(self._spool.now()),
            )
        except Refused as refused:
            if refused.refusal.status == 401 and refused.challenges is None:
                refused.challenges = self._challenges(
                    caller, stale=bool(refused.facts.get("stale"))
                )
            raise
        if caller.forwarded and receiver.auth == "open" and not sender.device:
            self._note_proxy()
        return sender

    def _note_proxy(self) -> None:
        """Remember, once an hour at most, that a proxy lets others in without a token."""
        now = self._spool.now().timestamp()
        if abs(now - self._proxy_noted_at) >= _NOTE_PROXY_SECONDS:
            self._proxy_noted_at = now
            self._spool.site.put(PROXIED, int(now))

    def _by_digest(self, caller: Caller) -> Credential | None:
        if not digest.is_one(caller):
            return None
        devices, now = self._spool.site.devices, self._spool.now()
        key = devices.digest_key() or ""
        seconds = int(now.timestamp())
        return digest.check(caller, lambda name: devices.digest_logins(name, now), key, seconds)

    def _challenges(self, caller: Caller, *, stale: bool) -> tuple[str, ...]:
        """Digest is offered once a device is enrolled for it: cameras prefer it to Basic."""
        key = self._spool.site.devices.digest_key()
        if key is None:
            return ()
        seconds = int(self._spool.now().timestamp())
        return digest.challenges(key, caller.peer, seconds, stale=stale)

    def identify_viewer(self, caller: Caller) -> Principal:
        """The same for a reader of the page: what is shown may be shown under this name."""
        sender = self.identify(caller)
        auth.refuse_foreign_host(caller, sender, self._hosts)
        return sender

    def identify_commander(self, caller: Caller) -> Principal:
        """The same for a request that changes something: only a token or this machine may, and
        no page of another site."""
        sender = self.identify(caller)
        auth.may_command(caller, sender, self._hosts)
        return sender

    def admission(self, wanted: int) -> Admission:
        """Whether an image of ``wanted`` bytes would be accepted now."""
        held_bytes, held_images = self.reservations.promised()
        receiving = replace(
            self._closed_by(),
            promised_bytes=held_bytes,
            promised_images=held_images,
            intake_wait_seconds=self.intake.wait_seconds(),
        )
        return room.admission(wanted, self._spool.disk(), receiving)

    def snapshot(self, latest: int = 20, runs: int = 10) -> Snapshot:
        """The spool's, with what only the receiver knows of whether it takes images."""
        largest = self._spool.settings.receiver.max_image
        facts = collect.snapshot(self._spool, latest, runs)
        return replace(facts, admission=self.admission(largest))

    def check_open(self, wanted: int) -> None:
        """Refused unless an image of ``wanted`` bytes would be accepted now."""
        try:
            self._admit(lambda: self.admission(wanted), tell_why=True)
        except Refused as refused:
            raise self._when_there_is_room(refused) from None

    def _admit(self, ask: Callable[[], Admission], *, tell_why: bool = False) -> None:
        """Refused unless the answer is yes; thumbnails go before an image is refused for them."""
        answer = ask()
        if answer.is_full and self._spool.thumbnails.give_up():
            answer = ask()
        checks.admitted(answer, tell_why=tell_why)

    def check_running(self) -> None:
        """Refused while the receiver is stopping, or its disk is not trusted."""
        closed = self._closed_by()
        if closed.stopping or closed.trouble:
            checks.admitted(room.admission(0, self._spool.disk(), closed))

    def _closed_by(self) -> Receiving:
        trouble = self.latch.trouble()
        return Receiving(
            stopping=self._stopping(),
            trouble="" if trouble is None else str(trouble),
            trouble_is_full=trouble is not None and trouble.full,
        )

    def of_device(self, device: str) -> contextlib.AbstractContextManager[None]:
        """Around one upload of this device; "" is no device, and not limited."""
        return self.rates.hold(device) if device else contextlib.nullcontext()

    @contextlib.contextmanager
    def reserved(self, size: int) -> Iterator[Reservation]:
        """Around an image of at most ``size`` bytes: disk space reserved for it alone."""

        def admit(reserved_bytes: int, reserved_images: int) -> None:
            others = Receiving(reserved_bytes, reserved_images)
            self._admit(lambda: room.admission(size, self._spool.disk(), others))

        try:
            held = self.reservations.hold(size, admit)
        except Refused as refused:
            raise self._when_there_is_room(refused) from None
        with held:
            yield held

    def _when_there_is_room(self, refused: Refused) -> Refused:
        """The same, with the time at which runs will have made room, if it is known."""
        if "missing" not in refused.facts:
            return refused
        missing = int(refused.facts["missing"])
        wait = collect.wait_for_room(self._spool, missing, self._chance())
        return refused if wait is None else Refused("disk_full", **refused.facts, retry_after=wait)

    @contextlib.contextmanager
    def let_in(self, size: int, received: Callable[[], int]) -> Iterator[None]:
        """Around a body of ``size`` bytes, counted against what the site may take in; what was not
        ``received`` at its end is given back."""
        self.intake.take(size)
        try:
            yield
        finally:
            self.intake.give_back(max(0, size - received()), size)

    def _opened(self) -> None:
        get_log().warning("disk.trusted", reason="its probes have passed")
