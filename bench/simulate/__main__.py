"""Simulated sites, and the plots of docs/SCALE.md: ``python -m bench.simulate [owner ...]``.

``owner``: a day of one site with an outage. ``gateways``: 1 to 100 of them on one link.
``bucket``: many sites and one bucket.
``--out FOLDER`` writes the plots there; ``--quick`` simulates less, to see that all of it works.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.simulate import bucket
from bench.simulate.gateways import Uplink, share
from bench.simulate.plot import Line, chart
from bench.simulate.site import Scenario, Second, day, percentile
from headgate.settings.settings import combine
from headgate.settings.units import human_duration, human_size
from uploader.plan import plan
from uploader.plan.terms import LIST_PRICES, Arrivals, Terms

ROOT = Path(__file__).resolve().parents[2]
_HOUR, _SEED = 3600, 2026
OWNER = Scenario(
    cameras=200,
    images_per_minute=2000,
    image_bytes=250_000,
    head_bytes=1200,
    rate=40_000_000,
    interval=300,
    seconds=24 * _HOUR,
    down=((6 * _HOUR, 14 * _HOUR),),
    grain=10,
)
"""2,000 images and 500 MB a minute, of which 2,400 MB a minute may leave; eight hours without."""
SMALL = Scenario(
    cameras=2,
    images_per_minute=20,
    image_bytes=250_000,
    head_bytes=1200,
    rate=400_000,
    interval=300,
    seconds=_HOUR,
)
"""A hundredth of it."""


def owner(out: Path, *, quick: bool) -> Iterator[str]:
    """A day of the owner's site, beside what ``headgate plan`` says of it."""
    scenario = OWNER
    if quick:
        scenario = Scenario(20, 2000, 250_000, 1200, 40_000_000, 60, 1800, ((300, 900),), grain=200)
    (down, up), *_ = scenario.down
    backlog, sent, ages, fresh = [], [], [], []
    late: list[int] = []
    peak, most, empty = 0, 0, None
    for second in day(scenario, random.Random(_SEED).random):
        hours = second.at / _HOUR
        backlog.append((hours, second.backlog / 1e9))
        sent.append((hours, second.sent * 60 / 1e6))
        if second.newest is not None:
            fresh.append((hours, second.newest / 60 + 0.01))
            ages.append((hours, max(second.ages) / 60 + 0.01))
        late += second.ages if second.at < down else ()
        peak, most = max(peak, second.backlog), max(most, second.sent)
        if empty is None and second.at > up and not second.images:
            empty = second.at - up
    settings = combine({"uplink": {"interval": f"{scenario.interval}s"}}, None, {}, {}, Path("/"))
    arrivals = Arrivals((scenario.images_per_minute * scenario.image_bytes / 60,), 250_000)
    said = plan.make(Terms(settings.uplink, arrivals, up - down, LIST_PRICES))
    recover = None if said.recover_seconds is None else human_duration(said.recover_seconds)
    late.sort()
    yield "| | simulated | headgate plan, at worst |"
    yield "|---|---|---|"
    yield f"| highest backlog | {human_size(peak)} | {human_size(said.peak_bytes)} |"
    gone = "not gone" if empty is None else human_duration(empty)
    yield f"| from its end until no image waits | {gone} | {recover} |"
    yield (f"| most bytes of a second | {most:,} | cap {said.cap_bytes_per_second:,} |")
    yield (
        f"| age of an image when it is sent, no outage | median {percentile(late, 0.5):.0f} s, "
        f"99 % {percentile(late, 0.99):.0f} s | up to {settings.uplink.interval} s |"
    )
    fresh = _least_of_minutes(fresh)
    after = [y for x, y in fresh if x * _HOUR > up + scenario.interval]
    yield f"| age of the newest image of each minute, after it | at most {max(after):.1f} min | |"
    cap = [(0.0, scenario.rate * 60 / 1e6), (scenario.seconds / _HOUR, scenario.rate * 60 / 1e6)]
    _write(out, "owner-backlog", chart(
        "A day with eight hours without an uplink: what waits (simulated)", "hour of the day",
        "GB", [Line("backlog", backlog)],
    ))  # fmt: skip
    _write(out, "owner-sent", chart(
        "The same day: what leaves (simulated)", "hour of the day", "MB a minute",
        [Line("sent", sent), Line("the cap", cap, dashed=True)],
    ))  # fmt: skip
    _write(out, "owner-age", chart(
        "The same day: age of the images that leave (simulated)", "hour of the day", "minutes",
        [Line("oldest of a second", ages), Line("newest of a minute", fresh)], log=True,
    ))  # fmt: skip


def _least_of_minutes(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    least: dict[int, float] = {}
    for hours, value in points:
        minute = int(hours * 60)
        least[minute] = min(value, least.get(minute, value))
    return [(minute / 60, value) for minute, value in least.items()]


def many(out: Path, *, quick: bool) -> Iterator[str]:
    """10,000 sites, each a hundredth of the owner's, and one bucket."""
    samples, sites = (2, 100) if quick else (40, 10_000)
    seconds = 600 if quick else SMALL.seconds
    one: list[list[Second]] = []
    for number in range(samples):
        chance = random.Random(_SEED + number)
        scenario = Scenario(
            SMALL.cameras, SMALL.images_per_minute, SMALL.image_bytes, SMALL.head_bytes,
            SMALL.rate, SMALL.interval, seconds,
        )  # fmt: skip
        one.append([*day(scenario, chance.random)])
    puts = [[len(second.ages) for second in found] for found in one]
    together = bucket.summed(puts, sites, lambda _site: 0)
    spread = bucket.summed(puts, sites, lambda site: site * SMALL.interval // sites)
    yield from bucket.table(sites, SMALL.images_per_minute, SMALL.image_bytes, SMALL.interval)
    for name, found in (("all runs start together", together), ("runs are spread", spread)):
        yield f"| most PUTs of a second, {name} | {max(found[seconds // 2 :]):,} | simulated |"
    minutes = [(at / 60, float(count)) for at, count in enumerate(together)]
    _write(out, "bucket-puts", chart(
        "10,000 sites, one bucket: PUTs a second (simulated)", "minutes", "PUTs a second",
        [
            Line("together", minutes),
            Line("spread", [(at / 60, float(count)) for at, count in enumerate(spread)]),
            Line("one prefix of S3", [(0.0, 3500.0), (seconds / 60, 3500.0)], dashed=True),
        ],
    ))  # fmt: skip


def together(out: Path, *, quick: bool) -> Iterator[str]:
    """Gateways on one link: the first is flooded, the others have half of their part to send; Redis
    is away for half a minute in the middle."""
    cap = OWNER.rate
    yield "| gateways | most of a second | used | Redis away | again | divided by hand |"
    yield "|---|---|---|---|---|---|"
    for number in (1, 3) if quick else (1, 2, 5, 20, 100):
        half = cap // 2 // number
        uplink = Uplink(cap, cap // 4 // number, [2 * cap, *[half] * (number - 1)], (60, 90))
        moments = [*share(uplink, 150, random.Random(_SEED).random)]
        sent = [moment.sent / cap for moment in moments]
        by_hand = (cap // number + half * (number - 1)) / cap
        yield (
            f"| {number} | {max(sent):.2%} | {_mean(sent[30:60]):.1%} | {_mean(sent[70:90]):.1%} | "
            f"{_mean(sent[110:]):.1%} | {by_hand:.0%} |"
        )
        if number in (3, 5):
            lines = [
                Line("all", [(float(moment.at), moment.sent * 60 / 1e6) for moment in moments]),
                Line("the cap", [(0.0, cap * 60 / 1e6), (150.0, cap * 60 / 1e6)], dashed=True),
            ]
            title = "Five gateways on one link, Redis away from 60 to 90 s (simulated)"
            _write(out, "gateways-sent", chart(title, "seconds", "MB a minute", lines))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _write(out: Path, name: str, svg: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.svg").write_text(svg, encoding="utf-8")


WHAT: Mapping[str, Callable[..., Iterator[str]]] = {
    "owner": owner,
    "gateways": together,
    "bucket": many,
}


def main(words: list[str]) -> int:
    """Simulate these, or all; print tables and write plots."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate")
    parser.add_argument("what", nargs="*", metavar="|".join(WHAT))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scale")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(words)
    if unknown := set(chosen.what) - set(WHAT):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for name in chosen.what or WHAT:
        print(f"\n**{name}**\n")
        for line in WHAT[name](chosen.out, quick=chosen.quick):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
