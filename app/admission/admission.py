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
from app.admission.auth import Caller, Person, Principal
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
from headgate.spool.site.users import Role
from headgate.spool.spool import Spool

_NOTE_PROXY_SECONDS = 3600


class Gate:
    """Admits or refuses requests before their bodies are read; a receiver has one. Thread-safe."""

    def __init__(
        self,
        spool: Spool,
        stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        person: Callable[[Caller], Person | None] = lambda _: None,
    ) -> None:
        """``person`` says who is logged in in a request, if anyone is."""
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
        self._person = person
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
        """Who looks at the page: a person who is logged in; or this machine itself, as long as
        there is no user and it may send without a token. Refused otherwise."""
        if (viewer := self._logged_in(caller)) is not None:
            return viewer
        if self._spool.site.users.any():
            raise Refused("login_required", reason="Log in at /login.")
        return self._this_machine(
            caller,
            "The page needs a log-in, and there is no user yet: on the receiver's machine, add one "
            "with headgate user add NAME --role admin.",
        )

    def identify_scraper(self, caller: Caller) -> Principal:
        """Who reads /metrics: a token for that, or a person; or this machine itself, as long as
        there is no such token and it may send without a token. Refused otherwise."""
        users = self._spool.site.users
        shown = auth.presented(caller.authorization)
        if shown is not None and users.may_scrape(shown.token):
            return Principal()
        if (viewer := self._logged_in(caller)) is not None:
            return viewer
        how = "/metrics needs a token of its own (a device's does not count): headgate token add."
        if users.scrape_tokens():
            raise Refused("unauthorized", reason=how)
        try:
            return self._this_machine(caller, how)
        except Refused as refused:
            if refused.refusal.code != "login_required":
                raise
            raise Refused("unauthorized", reason=how) from None

    def require(self, caller: Caller, needed: Role, *, or_this_machine: bool = False) -> Principal:
        """Who acts on the page; Refused if the role is not enough. ``or_this_machine``: also this
        machine, while it needs no log-in."""
        viewer = self.identify_viewer(caller)
        alone = or_this_machine and not viewer.user
        if not alone and (viewer.role is None or not viewer.role.may(needed)):
            raise Refused("role_needed", role=needed)
        return viewer

    def reader(self, caller: Caller) -> Principal:
        """Who reads a receipt or gaps: a person, or a device with its token."""
        return self._logged_in(caller) or self.identify(caller)

    def _logged_in(self, caller: Caller) -> Principal | None:
        person = self._person(caller)
        return None if person is None else Principal(user=person.name, role=person.role)

    def _this_machine(self, caller: Caller, otherwise: str) -> Principal:
        """This machine itself, where it may send without a token; Refused, with ``otherwise``,
        where it may not. A proxy that names users stands before it, too, so then it may not."""
        if self._spool.settings.auth.proxy_user_header or not auth.is_direct_loopback(caller):
            raise Refused("login_required", reason=otherwise)
        alone = replace(caller, authorization="", url_token="")
        try:
            sender = self.identify(alone)
        except Refused as refused:
            if refused.refusal.code != "unauthorized":
                raise
            raise Refused("login_required", reason=otherwise) from None
        auth.refuse_foreign_host(caller, sender, self._hosts)
        return replace(sender, role=Role.VIEWER)

    def identify_commander(self, caller: Caller) -> Principal:
        """Who sent a request that changes something: only a token or this machine may, and no page
        of another site."""
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
        """Refused while the receiver is stopping, is out of service, or does not trust its disk."""
        closed = self._closed_by()
        if closed.stopping or closed.safe_off or closed.trouble:
            checks.admitted(room.admission(0, self._spool.disk(), closed))

    def _closed_by(self) -> Receiving:
        trouble = self.latch.trouble()
        return Receiving(
            stopping=self._stopping(),
            safe_off=self._spool.is_safe_off(),
            trouble="" if trouble is None else str(trouble),
            trouble_is_full=trouble is not None and trouble.full,
        )

    def of_device(self, device: str) -> contextlib.AbstractContextManager[None]:
        """A context around one upload that counts it against its device's limits; "" is no device,
        and not limited."""
        return self.rates.hold(device) if device else contextlib.nullcontext()

    @contextlib.contextmanager
    def reserved(self, size: int) -> Iterator[Reservation]:
        """A context in which disk space is reserved for one image of at most ``size`` bytes."""

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
        """Add to a refusal for want of room the time at which runs will have made room, if it is
        known."""
        if "missing" not in refused.facts:
            return refused
        missing = int(refused.facts["missing"])
        wait = collect.wait_for_room(self._spool, missing, self._chance())
        return refused if wait is None else Refused("disk_full", **refused.facts, retry_after=wait)

    @contextlib.contextmanager
    def let_in(self, size: int, received: Callable[[], int]) -> Iterator[None]:
        """A context around a body of ``size`` bytes that counts against ``receiver.max_rate``;
        what was not ``received`` at its end is given back."""
        self.intake.take(size)
        try:
            yield
        finally:
            self.intake.give_back(max(0, size - received()), size)

    def _opened(self) -> None:
        get_log().warning("disk.trusted", reason="its probes have passed")
