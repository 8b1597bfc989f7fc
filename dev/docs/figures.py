"""What the owner's rate comes to, worked out from his figures and the default settings."""

from __future__ import annotations

from pathlib import Path

from headgate.settings.settings import combine
from headgate.settings.units import human_duration

IMAGES_A_MINUTE = 2_000
MB_A_MINUTE = 500
PUT_PRICE = 0.005  # dollars a thousand, S3 Standard: see the page for the source and the day
MINUTES_A_DAY = 24 * 60


def rate() -> str:
    """the table of docs/COMPARED.md."""
    settings = combine(None, None, {}, {}, Path())
    cap = settings.usual_rate * 60 // 10**6  # MB a minute
    minutes = settings.uplink.interval // 60
    allowed, arriving = cap * minutes, MB_A_MINUTE * minutes
    puts = IMAGES_A_MINUTE * MINUTES_A_DAY
    a_day = MB_A_MINUTE * MINUTES_A_DAY
    gone = round(a_day / (cap - MB_A_MINUTE) * 60)
    disk = 4_000_000 * 0.95
    lines = [
        "| at 2,000 images and 500 MB a minute | |",
        "|---|---|",
        f"| PUTs | {puts / 10**6:.2f} million a day |",
        f"| bytes | {a_day // 1000} GB a day |",
        f"| allowed in {minutes} minutes: {settings.written['uplink.share']} of "
        f"{settings.written['uplink.link']} | {allowed:,} MB |",
        f"| arriving in {minutes} minutes | {arriving:,} MB: {round(100 * arriving / allowed)} % "
        "of what is allowed |",
        f"| a day's outage is caught up within | {human_duration(gone)} |",
        f"| an outage that a 4 TB disk bridges | {disk / a_day:.1f} days: free space less "
        "`spool.keep_free` (5 %), by what comes in |",
        f"| PUTs at ${PUT_PRICE} a thousand | ${puts / 1000 * PUT_PRICE:.2f} a day, "
        f"${puts / 1000 * PUT_PRICE * 30:,.0f} in 30 days |",
    ]
    return "\n".join(lines)
