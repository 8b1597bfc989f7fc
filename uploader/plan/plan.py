"""A site on paper: backlog, disk and time to recover after an outage, requests and their cost, and
the numbers that cannot hold. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from uploader.plan.faults import Fault, faults_of
from uploader.plan.terms import Terms
from uploader.plan.week import DAY_SECONDS, Week


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes are those of images, for all gateways together. What is None is not known, or not
    within two weeks."""

    cap_bytes_per_second: int  # all that leaves, outside the timetable
    carried_bytes_per_second: int  # of images, on the average of a week, while any wait
    backlog_bytes: int  # the most in a usual week
    peak_bytes: int  # after the outage, if it begins when that is worst
    recover_seconds: float | None  # from the end of the outage until no image waits but for its run
    room_bytes: int | None  # for images that wait, on all disks
    disk_bytes: int | None  # the size that each gateway's disk must have
    puts_per_day: int
    puts_per_second: float  # while a backlog is sent
    puts_cost_per_day: float
    stored_bytes_per_day: int
    storage_cost_per_month: float  # of what one day adds
    faults: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Whether no number has to change."""
        return not self.faults


def make(terms: Terms) -> Plan:
    """The plan, with every fault that was found."""
    arrivals, disk, week = terms.arrivals, terms.disk, Week(terms)
    usual = week.usual()
    peak, recover = week.worst_outage(usual)
    peak += week.between_runs
    puts = arrivals.images_per_second * DAY_SECONDS
    stored = arrivals.bytes_per_second * DAY_SECONDS
    return Plan(
        cap_bytes_per_second=terms.uplink.share.of(terms.uplink.link),
        carried_bytes_per_second=round(week.mean),
        backlog_bytes=round(max(usual) + week.between_runs),
        peak_bytes=round(peak),
        recover_seconds=recover,
        room_bytes=None if disk is None else disk.room() * terms.gateways,
        disk_bytes=None if disk is None else disk.size_for(peak / terms.gateways),
        puts_per_day=round(puts),
        puts_per_second=round(max(week.carried) / arrivals.image_bytes, 2),
        puts_cost_per_day=round(puts / 1000 * terms.prices.per_1000_puts, 4),
        stored_bytes_per_day=round(stored),
        storage_cost_per_month=round(stored / 1e9 * terms.prices.per_gb_month, 4),
        faults=tuple(faults_of(terms, week, peak, recover)),
    )
