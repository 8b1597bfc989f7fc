"""The one durable accept of every way in: pictures and what was said of them become receipts.

HTTP uploads come through here, and so do the other ways in (a folder that is watched, FTP): the
same identity, the same books, the same warnings. Nothing is acknowledged before ``accept`` returns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.admission.admission import Gate
from app.admission.auth import Principal
from app.refusals import Refused
from app.upload import clock_skew, fields
from app.upload.fields import DeclaredFields
from app.upload.picture import ImageTarget, Picture
from app.upload.policy import Policy
from headgate.host.clock import CLOCK_OFF_SECONDS
from headgate.host.logs import get as get_log
from headgate.spool.catalog.device_stats import ClockReading
from headgate.spool.disk.durable import Incoming
from headgate.spool.errors import DiskError, IdentityConflict
from headgate.spool.image import names
from headgate.spool.image.image import Metadata, MetadataTooLarge
from headgate.spool.spool import Accepted, Spool

FILE_NAME_CUT = 80
"""Characters that stay of a file name for which there is no room."""


class PictureTaker:
    """Makes pictures durable and gives receipts for them; a process has one. Thread-safe."""

    def __init__(self, spool: Spool, gate: Gate) -> None:
        self._spool = spool
        self._gate = gate
        self._clocks_off: set[str] = set()
        self._log = get_log()

    def policy(self, sender: Principal) -> Policy:
        """How lenient the settings are with one upload of this sender. A program of this machine
        sends files that others may still be writing."""
        return Policy(self._spool.settings.receiver.strict, may_grow=sender.is_local)

    @contextlib.contextmanager
    def receiving(self, size: int) -> Iterator[ImageTarget]:
        """A context around one upload of at most ``size`` bytes: reserved room, and files in tmp/
        that are removed at the end unless they were accepted.

        Refused where there is no room; a disk that fails closes the receiver, and is a refusal.
        """
        with self._disk(), contextlib.ExitStack() as stack:
            reserved = stack.enter_context(self._gate.reserved(size))
            # The first file is made before a byte of the body is read: a disk that takes no file
            # is noticed before the client has sent its image.
            ready = [stack.enter_context(self._spool.incoming())]
            reserved.made()

            def open_file() -> Incoming:
                if ready:
                    return ready.pop()
                promise = stack.enter_context(self._gate.reserved(0))
                incoming = stack.enter_context(self._spool.incoming())
                promise.made()
                return incoming

            receiver = self._spool.settings.receiver
            yield ImageTarget(open_file, receiver.max_image, receiver.max_pixels, reserved.writing)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except DiskError as trouble:
            self._gate.latch.trip(trouble)
            self._log.error("disk.trouble", doing=trouble.doing, reason=str(trouble))
            raise Refused("disk_full" if trouble.full else "disk_trouble") from trouble

    def accept(
        self,
        pictures: Sequence[Picture],
        sources: Sequence[Mapping[str, str]],
        sender: Principal,
        peer: str,
        policy: Policy,
        *,
        date: str = "",
        admitted: Callable[[str], contextlib.AbstractContextManager[None]] | None = None,
    ) -> list[Accepted]:
        """Make finished pictures ours, inside ``receiving``; all of them, or Refused.

        ``sources`` are the fields that came with them, unchecked, those that count first; ``peer``
        is the sender's address; ``date`` what its clock said. ``admitted`` stands around the
        accept, for a device that is known only now.
        """
        said = fields.read(sources, policy)
        device = self.device_of(sender, said.device, policy)
        if said.urgent and not sender.urgent:
            policy.remark(
                Refused("not_urgent"), "priority urgent needs a token with the right to it"
            )
            said = replace(said, urgent=False)
        if said.key and not device:
            policy.say("Idempotency-Key needs a device's name, and was not used")
            said = replace(said, key="")
        self._check_digest(pictures, said)
        clock = clock_skew.reading(date, said.captured_at, self._spool.now())
        owner = device or names.address_device(peer)
        around = contextlib.nullcontext() if admitted is None else admitted(device)
        with around:
            accepted = [
                self._one(picture, number, owner, said, policy, clock)
                for number, picture in enumerate(pictures)
            ]
        if device and clock is not None:
            self._watch_clock(device, clock)
        return accepted

    def device_of(self, sender: Principal, named: str, policy: Policy) -> str:
        """Whose upload this is: the token's device, whatever it calls itself, unless its token may
        forward. A name that was enrolled is its token's alone: with another's, an image or a key
        could be taken for that device's own."""
        if named and sender.sends_for(named) != named:
            policy.remark(
                Refused("wrong_device", device=sender.device, named=names.device_shown(named)),
                f"device {names.device_shown(named)} is not whose token this is: {sender.device}",
            )
            policy.keep("device", names.device_shown(named))
        if sender.is_local:
            return named
        if named and not sender.device and self._spool.site.devices.is_named(named):
            raise Refused(
                "unauthorized",
                reason=f"The device {named} was enrolled, so its uploads need its token: send it "
                "as Authorization: Bearer, or use another name; headgate device rotate makes a "
                "new token.",
            )
        return sender.sends_for(named)

    @staticmethod
    def _check_digest(pictures: Sequence[Picture], said: DeclaredFields) -> None:
        found = [picture.incoming.sha256 for picture in pictures]
        if said.sha256 and said.sha256 not in found:
            raise Refused(
                "digest_mismatch", algorithm="SHA-256", promised=said.sha256, found=found[0]
            )

    def _one(
        self,
        picture: Picture,
        number: int,
        device: str,
        said: DeclaredFields,
        policy: Policy,
        clock: ClockReading | None,
    ) -> Accepted:
        """Make one picture of an upload durable. A key and a sequence number name the first of
        several."""
        incoming = picture.incoming
        key = said.key if not number or not said.key else f"{said.key[:240]}#{number + 1}"
        meta = Metadata(
            sha256=incoming.sha256,
            size=incoming.size,
            media_type=picture.media_type,
            file_name=picture.file_name,
            captured_at=said.captured_at,
            sequence=None if number else said.sequence,
            key=key,
            tags=said.tags,
            urgent=said.urgent,
            as_sent=policy.as_sent,
            remarks=policy.remarks(picture.complete),
        )
        try:
            try:
                return self._spool.accept(incoming, device, meta, clock)
            except MetadataTooLarge as error:
                fitted = _fitted(meta, policy, error)
                return self._spool.accept(incoming, device, fitted, clock)
        except IdentityConflict as error:
            raise Refused("key_conflict", held=error.held.id) from error

    def _watch_clock(self, device: str, clock: ClockReading) -> None:
        """Say once that a device's clock is off, by the best reading of it, and once that it is
        not any more."""
        if abs(clock.offset_seconds) < CLOCK_OFF_SECONDS and device not in self._clocks_off:
            return
        known = self._spool.catalog.arrivals_of(device)
        if known is None or known.clock_is_off == (device in self._clocks_off):
            return
        if known.clock_is_off:
            self._clocks_off.add(device)
            self._log.warning("device.clock_off", device=device, seconds=known.clock_offset_seconds)
        else:
            self._clocks_off.discard(device)
            self._log.info("device.clock_right", device=device)


def _fitted(meta: Metadata, policy: Policy, why: MetadataTooLarge) -> Metadata:
    """Cut metadata down to what fits next to the file: what could not be used goes first, then
    tags, then the file name's end."""
    policy.remark(
        Refused("metadata_too_large", reason=str(why)), "not all metadata fits next to the image"
    )
    remarks = policy.remarks(meta.remarks.complete)
    meta = replace(meta, remarks=remarks)
    smaller: tuple[dict[str, Any], ...] = (
        {"as_sent": {}},
        {"remarks": replace(remarks, warnings=(policy.warnings[0], policy.warnings[-1]))},
        {"tags": {}},
        {"file_name": meta.file_name[:FILE_NAME_CUT]},
    )
    for fewer in smaller:
        meta = replace(meta, **fewer)
        with contextlib.suppress(MetadataTooLarge):
            meta.encode()
            break
    return meta
