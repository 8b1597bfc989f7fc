"""Whether an image would be taken now, and if not, why. One answer for all who ask. Pure.

Uploads, ``/readyz``, ``/limits``, the page, ``headgate status``, doctor, the alerts and the metric
``headgate_accepting`` all ask ``admission``, so that none of them calls a disk good on which the
receiver refuses. What only the receiver knows (uploads in flight, a disk that failed, a stop) it
passes in; other programs ask about the disk alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.settings.units import human_size

SPARE_INODES = 16
"""Inodes kept for the spool's own files and minute folders."""

SPARE_BYTES = 4 * 1024 * 1024
"""Bytes kept above the floor for the same: catalog, WAL, folders."""

BLOCK = 4096
ATTRIBUTE_BYTES = BLOCK
"""An image's metadata may need a block in addition to the file's own."""

DISK_FULL, DISK_TROUBLE, STOPPING, INTAKE_SPENT, SAFE_OFF = (
    "disk_full", "disk_trouble", "stopping", "intake_spent", "safe_off",
)  # fmt: skip
"""Codes of the receiver's refusals (``app.refusals``)."""


def on_disk(size: int) -> int:
    """Bytes of disk that an image of ``size`` bytes takes, with its metadata."""
    return -(-size // BLOCK) * BLOCK + ATTRIBUTE_BYTES


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What is free on the spool's disk, and what uploads never use."""

    free_bytes: int
    keep_free_bytes: int
    free_inodes: int


@dataclass(frozen=True, slots=True)
class Receiving:
    """What only the receiver knows: what it promised to uploads in flight, and whether something
    else than the disk's room keeps it closed."""

    promised_bytes: int = 0
    promised_images: int = 0
    stopping: bool = False
    safe_off: bool = False  # a person takes this gateway out of service
    trouble: str = ""  # why its disk is not trusted
    trouble_is_full: bool = False  # that is for want of room
    intake_wait_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether an image would be taken, and if not, why. ``code`` is that of the refusal that an
    image would meet, where there is one."""

    accepting: bool = True
    code: str = ""
    sentence: str = ""  # why not; says what to do
    wanted_bytes: int = 0  # of the image that was asked about
    needed_bytes: int = 0  # with this many free bytes it would be accepted
    free_bytes: int = 0
    keep_free_bytes: int = 0
    needed_inodes: int = 0
    free_inodes: int = 0
    retry_after: int | None = None  # seconds, where that is known

    @property
    def missing_bytes(self) -> int:
        """What is not free and has to be, for this image to be taken."""
        return max(0, self.needed_bytes - self.free_bytes)

    @property
    def missing_inodes(self) -> int:
        """How many inodes are not free and have to be, for this image to be taken."""
        return max(0, self.needed_inodes - self.free_inodes)

    @property
    def is_full(self) -> bool:
        """Whether the disk's room is what is missing."""
        return self.code == DISK_FULL


NO_RECEIVER = Receiving()
UNASKED = Admission()


def admission(wanted: int, disk: FreeSpace, receiving: Receiving = NO_RECEIVER) -> Admission:
    """Whether an image of ``wanted`` bytes would be accepted: in addition to other reservations,
    and with the floor and the spool's own reserve left over."""
    needed = disk.keep_free_bytes + SPARE_BYTES + receiving.promised_bytes + on_disk(wanted)
    inodes = SPARE_INODES + receiving.promised_images + 1
    code, sentence, retry_after = "", "", None
    if receiving.stopping:
        code, sentence = STOPPING, "The receiver is stopping."
    elif receiving.safe_off:
        code = SAFE_OFF
        sentence = "Nothing is accepted since headgate safe-off; headgate safe-on ends that."
    elif receiving.trouble:
        code = DISK_FULL if receiving.trouble_is_full else DISK_TROUBLE
        sentence = (
            f"The disk refuses to write ({receiving.trouble}): nothing is accepted until a test "
            "write passes. What was acknowledged is safe."
        )
    elif disk.free_bytes < needed:
        code, sentence = DISK_FULL, _bytes_missing(wanted, disk, receiving, needed)
    elif disk.free_inodes < inodes:
        code = DISK_FULL
        sentence = (
            f"The disk has {disk.free_inodes} free inodes, an image takes one, and "
            f"{inodes - 1} are kept or promised: uploads are refused. Delete files on it (df -i), "
            "or let the uploader catch up. What was acknowledged is safe."
        )
    elif receiving.intake_wait_seconds:
        code, retry_after = INTAKE_SPENT, receiving.intake_wait_seconds
        sentence = "All devices together send more than receiver.intake lets in."
    return Admission(
        accepting=not code,
        code=code,
        sentence=sentence,
        wanted_bytes=wanted,
        needed_bytes=needed,
        free_bytes=disk.free_bytes,
        keep_free_bytes=disk.keep_free_bytes,
        needed_inodes=inodes,
        free_inodes=disk.free_inodes,
        retry_after=retry_after,
    )


def _bytes_missing(wanted: int, disk: FreeSpace, receiving: Receiving, needed: int) -> str:
    promised = receiving.promised_bytes
    in_flight = f", {human_size(promised)} are promised to uploads in flight" if promised else ""
    return (
        f"The disk is full: {human_size(disk.free_bytes)} are free, and an image of "
        f"{human_size(wanted)} is taken from {human_size(needed)} on "
        f"({human_size(disk.keep_free_bytes)} are kept free, {human_size(SPARE_BYTES)} are for the "
        f"spool's own files{in_flight}). Uploads are refused. Free some space, or let the uploader "
        "catch up. What was acknowledged is safe."
    )
