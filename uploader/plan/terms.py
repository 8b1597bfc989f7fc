"""What a plan is made for: what arrives, the settings, an outage, the disks, prices. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headgate.settings.table import UplinkSettings
from headgate.settings.units import Percent, of_disk

HEAD_BYTES = 1200
"""What leaves with an image in addition to its bytes, where it was not measured: the head of the
PUT, and TLS records."""
_WHOLE = 10_000  # hundredths of a percent


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What comes in, in bytes of images and images a second; ``by_hour`` has the 24 hours of the
    wall clock, or one rate for all of them."""

    by_hour: tuple[float, ...]
    image_bytes: float
    head_bytes: float = HEAD_BYTES
    measured_hours: int = 0  # 0: given by a person

    @property
    def bytes_per_second(self) -> float:
        return sum(self.by_hour) / len(self.by_hour)

    @property
    def images_per_second(self) -> float:
        return self.bytes_per_second / self.image_bytes

    @property
    def content_part(self) -> float:
        """Of the bytes that leave, those of images."""
        return self.image_bytes / (self.image_bytes + self.head_bytes)

    def at(self, hour: int) -> float:
        """Bytes a second in this hour of the day."""
        return self.by_hour[hour % len(self.by_hour)]


@dataclass(frozen=True, slots=True)
class Disk:
    """The spool's disk; ``keep_free`` as in the settings. ``inodes`` 0: not known."""

    size: int
    keep_free: int | Percent
    inodes: int = 0
    given: bool = False  # by a person, and so as large as the plan likes

    def room(self) -> int:
        """Bytes for images that wait: local copies of uploaded ones go before any is refused."""
        return max(0, self.size - of_disk(self.keep_free, self.size))

    def size_for(self, needed: float) -> int:
        """The smallest disk with this much room."""
        if isinstance(self.keep_free, Percent):
            return math.ceil(needed * _WHOLE / max(1, _WHOLE - self.keep_free.hundredths))
        return math.ceil(needed) + self.keep_free


@dataclass(frozen=True, slots=True)
class Prices:
    """In one currency: of 1,000 PUTs, and of 1 GB (10^9 B) kept for a month."""

    per_1000_puts: float
    per_gb_month: float
    source: str


LIST_PRICES = Prices(
    0.005,
    0.023,
    "US dollars, list price of Amazon S3 Standard in us-east-1, aws.amazon.com/s3/pricing",
)
"""Where none are given."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan is made for. ``gateways`` share the uplink; each has ``floor`` bytes a second."""

    uplink: UplinkSettings
    arrivals: Arrivals
    outage_seconds: int
    prices: Prices
    disk: Disk | None = None  # of each gateway
    gateways: int = 1
    floor: int = 0
