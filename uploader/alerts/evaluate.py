"""One look at everything that the rules judge, and the step that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from headgate.host import logs
from headgate.monitor import devices, receiver
from headgate.monitor.checks import Signs, find
from headgate.monitor.collect import snapshot
from headgate.spool.errors import LockHeld
from headgate.spool.site.alerts import Alert, Alerts, Message, Silence
from headgate.spool.site.site import S3_CLOCK
from headgate.spool.spool import Spool
from uploader.alerts import outbox
from uploader.alerts.channel import Channel
from uploader.alerts.lifecycle import Counts, step
from uploader.alerts.messages import Scene, messages

_RUNS = 50


def evaluate(signs: Signs, site_name: str, alerts: Alerts, ways: Sequence[Channel]) -> None:
    """Judge what was seen, and put what is to be said into the outbox."""
    facts = signs.facts
    counts = Counts(facts.received.images, facts.set_aside.images)
    astray = facts.unaccounted + facts.lost.images
    scene = Scene(site_name, signs.now, counts, astray)

    def take(
        before: tuple[Alert, ...], silences: tuple[Silence, ...]
    ) -> tuple[list[Alert], list[Message]]:
        wrong = {(alert.code, alert.subject) for alert in before if alert.bad or alert.told}
        after, events = step(before, find(signs, wrong), signs.now, silences, counts)
        return after, messages(events, scene)

    for said in alerts.change(take, [way.name for way in ways]):
        logs.get().warning(f"alert.{said.kind}", code=said.about, title=said.title, text=said.text)


def look(spool: Spool, ways: Sequence[Channel] = (), *, at_work: bool | None = None) -> Signs:
    """Everything at this moment. What was learned of the devices is remembered on the way.
    ``at_work``: whether a run is; None: look."""
    settings = spool.settings
    working = at_work_now(spool) if at_work is None else at_work
    said = receiver.ask(spool)
    receiver_up = not said.silent and not said.disk_trouble
    devices.learn(spool.catalog, spool.site, spool.now(), receiver_up=receiver_up)
    spool.site.triggers.expect({"queue"} if settings.uplink.trigger == "queue" else (), spool.now())
    facts = snapshot(spool, latest=0, runs=_RUNS)
    if not said.silent:  # that is an alert of its own, and says nothing of the disk
        facts = replace(facts, admission=said.admission(facts.admission))
    now = facts.at
    quiet: Mapping[str, datetime] = {}
    if settings.shares_uplink:
        from headgate.monitor.silent_gateways import silent_gateways  # nobody else pays for it

        quiet = silent_gateways(spool)
    return Signs(
        facts=facts,
        minutes=spool.catalog.flow(now - timedelta(minutes=75), 1),
        receiver=said.silent,
        at_work=working,
        open_to_all=receiver.open_to_all(spool),
        s3_clock_offset_seconds=spool.site.get(S3_CLOCK),
        channels=outbox.failing(spool.site.alerts, ways, now),
        silent_gateways=quiet,
    )


def at_work_now(spool: Spool) -> bool:
    """Whether a run holds the drain lock."""
    try:
        spool.hold_drain_lock("headgate watch", 0).release()
    except LockHeld:
        return True
    return False
