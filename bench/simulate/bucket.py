"""Many sites and what they share: one bucket, and one account's metrics. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from uploader.cloudwatch.metrics import NUMBERS
from uploader.plan.terms import LIST_PRICES

PUTS_A_PREFIX = 3500
"""A second: docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html."""
_METRIC_PRICES = ((10_000, 0.30), (240_000, 0.10), (750_000, 0.05), (None, 0.02))
"""US dollars a metric and month: the first so many at each, aws.amazon.com/cloudwatch/pricing."""
_PER_1000_POINTS = 0.01
"""US dollars for 1,000 PutMetricData requests, same page."""
_DAY, _MONTH = 86_400, 30


def summed(puts: Sequence[Sequence[int]], sites: int, phase: Callable[[int], int]) -> list[int]:
    """PUTs in each second, of so many sites: each does as one of the samples did, so many seconds
    later."""
    seconds = len(puts[0])
    total = [0] * seconds
    groups: dict[tuple[int, int], int] = {}
    for site in range(sites):
        group = (site % len(puts), phase(site))
        groups[group] = groups.get(group, 0) + 1
    for (sample, later), count in groups.items():
        for at in range(later, seconds):
            if one := puts[sample][at - later]:
                total[at] += one * count
    return total


def metrics_cost(metrics: int) -> float:
    """US dollars a month."""
    cost = 0.0
    for many, price in _METRIC_PRICES:
        some = metrics if many is None else min(many, metrics)
        cost, metrics = cost + some * price, metrics - some
    return cost


def table(sites: int, images_per_minute: float, image_bytes: int, interval: int) -> Iterator[str]:
    """What they come to in a day or a month, each line marked."""
    puts = sites * images_per_minute * 60 * 24
    stored = puts * image_bytes / 1e9
    metrics, runs = sites * len(NUMBERS), sites * _DAY // interval
    points_cost = runs * _MONTH / 1000 * _PER_1000_POINTS
    yield f"| {sites:,} sites | | |"
    yield "|---|---|---|"
    yield f"| PUTs a day | {puts:,.0f} | simulated (arithmetic) |"
    yield f"| PUTs a second, mean | {puts / _DAY:,.0f} | simulated (arithmetic) |"
    yield f"| PUTs a second and prefix that S3 takes at least | {PUTS_A_PREFIX:,} | cited |"
    yield (
        f"| price of the PUTs | {puts / 1000 * LIST_PRICES.per_1000_puts:,.0f} USD a day "
        "| cited prices |"
    )
    yield (
        f"| stored | {stored / 1000:,.0f} TB a day; "
        f"{stored * LIST_PRICES.per_gb_month:,.0f} USD a month for each day kept | cited prices |"
    )
    yield (
        f"| CloudWatch | {metrics:,} metrics, {runs:,} requests a day; "
        f"{metrics_cost(metrics) + points_cost:,.0f} USD a month | cited prices |"
    )
