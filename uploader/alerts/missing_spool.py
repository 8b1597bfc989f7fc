"""The alert that the spool itself is missing, because its disk is not mounted.

The database that remembers alerts is on the missing disk. So this one is kept where the spool's
identity is remembered (``headgate.spool.identity``), in a folder of its own: what was sent, what no
channel took yet, and a ledger, so that messages keep to the cap. Where that folder cannot be
written nothing is sent, because nothing could remember that it was: exit codes, cron's mail and the
heartbeat's silence remain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from headgate.host import logs
from headgate.monitor.rules import AlertCondition, AlertRule, Level
from headgate.settings.settings import Settings
from headgate.settings.units import human_duration
from headgate.spool import identity
from headgate.spool.budget.uplink import Uplink, uplink_without_spool
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.site.alerts import Alert, Message
from uploader.alerts import outbox
from uploader.alerts.channel import Channel, DeliveryError
from uploader.alerts.lifecycle import Event, MessageKind, step
from uploader.alerts.messages import Scene, messages
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

RULE = AlertRule(
    "spool-missing",
    Level.BAD,
    "The spool's disk is missing",
    "{why}",
    "mount its disk, then: headgate doctor",
    wait_seconds=60,  # a disk may be late at boot
    calm_seconds=0,
)
_RULES = {RULE.code: RULE}
_FILE = "alert.json"
_QUEUE = 20
_LOCK_SECONDS = 2.0


@dataclass(slots=True)
class _State:
    alerts: list[Alert] = field(default_factory=list)
    queue: list[tuple[str, Message]] = field(default_factory=list)  # by channel, the oldest first

    def encode(self) -> bytes:
        fields = {
            "alerts": [asdict(one) for one in self.alerts],
            "queue": [[name, asdict(message)] for name, message in self.queue],
        }
        return (json.dumps(fields, default=datetime.isoformat, indent=2) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> _State:
        fields = json.loads(data)
        alerts = [
            Alert(
                **one
                | {
                    "began_at": datetime.fromisoformat(one["began_at"]),
                    "good_since": one["good_since"] and datetime.fromisoformat(one["good_since"]),
                    "told_at": tuple(datetime.fromisoformat(at) for at in one["told_at"]),
                }
            )
            for one in fields["alerts"]
        ]
        queue = [
            (name, Message(**one | {"made_at": datetime.fromisoformat(one["made_at"])}))
            for name, one in fields["queue"]
        ]
        return cls(alerts, queue)


def folder(settings: Settings) -> Path | None:
    """The folder in which this alert is remembered; None where no spool is."""
    known = identity.remembered(settings)
    return None if known is None else known[1].with_suffix(".missing")


def report(settings: Settings, why: str, now: Callable[[], datetime]) -> int:
    """The spool is missing: tell it once, then rarely. How many messages were taken."""
    return _look(settings, [AlertCondition(RULE.code, why)], now)


def clear(settings: Settings, now: Callable[[], datetime]) -> int:
    """The spool is there: if it was reported missing, tell that it is back."""
    place = folder(settings)
    return _look(settings, [], now) if place is not None and (place / _FILE).exists() else 0


def _look(settings: Settings, found: Sequence[AlertCondition], now: Callable[[], datetime]) -> int:
    ways, place = outbox.channels(settings), folder(settings)
    if place is None or not ways:
        return 0
    try:
        durable.make_root(place, ())
        uplink = uplink_without_spool(settings, place, now)
        with uplink.hold_rest_lock("headgate (spool missing)", _LOCK_SECONDS):
            state = _read(place / _FILE)
            state.alerts, events = step(state.alerts, found, now(), rules=_RULES)
            said = _messages(settings, events, now())
            state.queue += [(way.name, one) for one in said for way in ways]
            state.queue = state.queue[-_QUEUE:]
            durable.write_file(place / _FILE, state.encode())  # before it is sent: never twice
        taken = _send(uplink, ways, state, place) if state.queue else 0
        if not found and not state.queue and not any(one.told for one in state.alerts):
            durable.remove(place / _FILE)
        return taken
    except (OSError, DiskError, LockHeld, Closed) as error:
        logs.get().warning("alert.waits", why=str(error))
        return 0


def _read(path: Path) -> _State:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _State.decode(path.read_bytes())
    return _State()


def _messages(settings: Settings, events: Sequence[Event], now: datetime) -> list[Message]:
    said = messages(events, Scene(settings.site.name, now), _RULES)
    back = {event.alert.thread: event.alert for event in events
            if event.kind is MessageKind.RECOVERY}  # fmt: skip
    return [_recovery(one, back[one.thread], now) if one.thread in back else one for one in said]


def _recovery(said: Message, alert: Alert, now: datetime) -> Message:
    lasted = human_duration(max(0.0, (now - alert.began_at).total_seconds()))
    text = (
        f"The spool is there again, after {lasted}. Meanwhile nothing could be stored or sent; see "
        "`headgate status` for what waits."
    )
    return Message(said.kind, said.thread, said.title, text, said.made_at, said.about)


def _send(uplink: Uplink, ways: Sequence[Channel], state: _State, place: Path) -> int:
    by_name, left, taken = {way.name: way for way in ways}, [], 0
    with other_traffic_pacer(uplink, "headgate (spool missing)", _LOCK_SECONDS) as pacer:
        for name, message in state.queue:
            way = by_name.get(name)
            if way is None:
                continue
            try:
                way.send(message, pacer)
                taken += 1
                logs.get().info("alert.sent", channel=name, title=message.title)
            except DeliveryError as trouble:
                logs.get().warning("alert.undelivered", channel=name, why=str(trouble))
                if not trouble.unfit:
                    left.append((name, message))
        state.queue = left
        durable.write_file(place / _FILE, state.encode())
    return taken
