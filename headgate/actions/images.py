"""What people do to images: put those back that were set aside, or give them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from headgate.actions.errors import ActionRefused
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import GONE, State
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.gone import Stage
from headgate.spool.spool import RETRY, Spool
from headgate.spool.upkeep.mover import Mover

REASON_MAX = 500
ALL = 1_000_000
"""More than are ever set aside."""


class Result(StrEnum):
    """What became of one image; the value is its sentence."""

    PUT_BACK = "the next run sends it"
    ASKED = "a run is at work and puts it back"
    HELD = "it is held; headgate release lets it go on"
    UPLOADED = "it is uploaded already"
    GONE = "there is no file of it any more"
    UNKNOWN = "there is no such image here"


FAILED = (Result.GONE, Result.UNKNOWN, Result.HELD)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result for one image, and why."""

    result: Result
    reason: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.result.value, self.reason) if part)


def retry(spool: Spool, by: Actor, images: Sequence[str]) -> dict[str, Answer]:
    """Put images that were set aside back in the queue. The holder of the drain lock moves files:
    this program if the lock is free, else the run under way, which it leaves a request."""
    answers = {}
    held = [image for image in images if _held(spool, image)]
    answers.update(dict.fromkeys(held, Answer(Result.HELD)))
    images = [image for image in images if image not in held]
    try:
        with spool.hold_drain_lock("headgate retry", 0) as lock:
            mover = Mover(spool, lock)
            for image in images:
                if spool.catalog.get(image) is not None:
                    spool.site.audit.record(by, Action.RETRY, spool.now(), image)
                put_back = mover.retry(image)
                answers[image] = Answer(Result.PUT_BACK) if put_back else _absent(spool, image)
    except LockHeld:
        for image in images:
            if spool.catalog.get(image) is None:
                answers[image] = _absent(spool, image)
                continue
            request_retry(spool, by, image)
            answers[image] = Answer(Result.ASKED)
    return answers


def _held(spool: Spool, image: str) -> bool:
    item = spool.catalog.get(image)
    return item is not None and item.state is State.HELD


def request_retry(spool: Spool, by: Actor, image: str) -> None:
    """Leave the request; the next run, or the one under way, carries it out."""
    with spool.site.together():
        spool.site.add_request(RETRY, image, spool.now())
        spool.site.audit.record(by, Action.RETRY, spool.now(), image)


def request_retry_all(spool: Spool, by: Actor) -> int:
    """Ask for another try of every image that is set aside; how many."""
    items = spool.catalog.in_state(State.SET_ASIDE, ALL)
    with spool.site.together():
        for item in items:
            request_retry(spool, by, item.id)
    return len(items)


def _absent(spool: Spool, image: str) -> Answer:
    receipt = spool.receipt(image)
    if receipt is not None and receipt.safe_to_erase:
        return Answer(Result.UPLOADED)
    if receipt is not None and receipt.state in GONE:
        return Answer(Result.GONE, receipt.reason)
    return Answer(Result.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Discarded:
    """What became of one image that was to be given up, in a sentence."""

    done: bool  # or will be by the run under way
    sentence: str


def discard(spool: Spool, by: Actor, images: Sequence[str], reason: str) -> dict[str, Discarded]:
    """Give up images that are set aside or lost: their files go, their records stay."""
    reason = _reason(reason)
    troubles = {image: _ask(spool, by, image, reason) for image in images}
    return {
        image: Discarded(not trouble, trouble or _carry_out(spool, image))
        for image, trouble in troubles.items()
    }


def request_discard(spool: Spool, by: Actor, image: str, reason: str) -> Discarded:
    """Give up one image from a program that moves no files: the next run, or the one under way,
    deletes it."""
    if trouble := _ask(spool, by, image, _reason(reason)):
        return Discarded(False, trouble)
    line = spool.site.gone.get(image)
    if line is not None and line.stage is Stage.ASKED:
        return Discarded(True, "the next run deletes its file")
    return Discarded(True, "discarded")


def _reason(reason: str) -> str:
    reason = " ".join(reason.split())[:REASON_MAX]
    if not reason:
        raise ActionRefused("give a reason, such as: a test picture", invalid=True)
    return reason


def _ask(spool: Spool, by: Actor, image: str, reason: str) -> str:
    """Record that an image is to be discarded; a sentence if it cannot be."""
    item, line = spool.catalog.get(image), spool.site.gone.get(image)
    if line is not None and line.stage is Stage.DISCARDED:
        return line.said
    if line is not None and line.stage is Stage.LOST:
        with spool.site.together():
            spool.site.gone.discarded(image, spool.now(), by.name, reason)
            spool.site.audit.record(by, Action.DISCARD, spool.now(), image, reason)
        return ""
    if item is None:
        receipt = spool.receipt(image)
        if receipt is not None and receipt.safe_to_erase:
            return "it is uploaded; its local copy is deleted automatically"
        return "there is no such image"
    if item.state is State.HELD:
        return "it is held; only images that are set aside or lost can be discarded"
    if item.state is not State.SET_ASIDE and spool.files.places(item.name):
        return "it is waiting to be sent; only images that are set aside or lost can be discarded"
    if item.state is not State.SET_ASIDE:
        return "its file is missing; headgate verify --repair records it as lost, then discard it"
    with spool.site.together():
        spool.site.gone.ask(item, spool.now(), by.name, reason)
        spool.site.audit.record(by, Action.DISCARD, spool.now(), image, reason)
    return ""


def _carry_out(spool: Spool, image: str) -> str:
    try:
        with spool.hold_drain_lock("headgate discard", 0) as lock:
            Mover(spool, lock).discard()
    except LockHeld:
        line = spool.site.gone.get(image)
        if line is not None and line.stage is Stage.ASKED:
            return "the active run will discard it"
    return "discarded"
