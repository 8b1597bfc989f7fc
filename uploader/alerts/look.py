"""One look at everything that the rules judge, and the step that follows from it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from spool import logs, watched
from spool.alert import Alert, Message, Silence
from spool.errors import LockHeld
from spool.site import S3_CLOCK
from spool.spool import Spool
from spool.units import of_disk
from uploader.alerts import outbox
from uploader.alerts.channels import Sends
from uploader.alerts.compose import Scene, messages
from uploader.alerts.judges import Signs
from uploader.alerts.rules import find
from uploader.alerts.states import Counts, step

_ANSWER_SECONDS = 5.0
_RUNS = 50


def evaluate(spool: Spool, ways: Sequence[Sends], *, at_work: bool | None = None) -> None:
    """Look, judge, and put what is to be said into the outbox. ``at_work``: the caller is a run."""
    working = _at_work(spool) if at_work is None else at_work
    signs = look(spool, ways, at_work=working)
    facts = signs.facts
    counts = Counts(facts.received.images, facts.set_aside.images)
    scene = Scene(str(spool.settings["site.name"]), signs.now, counts, facts.unaccounted)

    def take(
        before: tuple[Alert, ...], silences: tuple[Silence, ...]
    ) -> tuple[list[Alert], list[Message]]:
        wrong = {(alert.code, alert.subject) for alert in before if alert.bad or alert.told}
        after, events = step(before, find(signs, wrong), signs.now, silences, counts)
        return after, messages(events, scene)

    for said in spool.site.alerts.change(take, [way.name for way in ways]):
        logs.get().warning(f"alert.{said.kind}", code=said.about, title=said.title, text=said.text)


def look(spool: Spool, ways: Sequence[Sends] = (), *, at_work: bool = False) -> Signs:
    """Everything at this moment. What was learnt of the devices is remembered on the way."""
    settings = spool.settings
    silent, trouble = _receiver(spool)
    lit = not silent and not trouble
    watched.learn(spool.catalog, spool.site, spool.now(), lit=lit)
    spool.site.triggers.expect(
        {"queue"} if settings["uplink.trigger"] == "queue" else (), spool.now()
    )
    facts = spool.facts(latest=0, runs=_RUNS)
    now = facts.at
    floor = of_disk(settings["spool.keep_free"], facts.disk_bytes)
    bind = str(settings["receiver.bind"])
    to_all = settings["receiver.auth"] == "open" and not settings["receiver.allow"]
    return Signs(
        facts=facts,
        keep_free_bytes=floor,
        minutes=spool.catalog.flow(now - timedelta(minutes=75), 1),
        receiver=silent,
        disk_trouble=trouble,
        at_work=at_work,
        open_to_all=to_all and not _is_loopback(bind),
        s3_clock_offset_seconds=spool.site.recall(S3_CLOCK),
        channels=outbox.failing(spool.site.alerts, ways, now),
    )


def _at_work(spool: Spool) -> bool:
    try:
        spool.hold_drain_lock("headgate watch", 0).release()
    except LockHeld:
        return True
    return False


def _receiver(spool: Spool) -> tuple[str, str]:
    """(why it seems silent, why its disk takes nothing); both empty if all is well.

    It is asked on this machine: nothing of that leaves it, so no rate is charged.
    """
    host, _, port = str(spool.settings["receiver.bind"]).rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        if _status(host, int(port), "/healthz")[0] != 200:
            return f"The receiver at {host}:{port} says that it is not well.", ""
        status, said = _status(host, int(port), "/readyz")
    except (OSError, http.client.HTTPException) as error:
        try:
            spool.hold_receiver_lock(wait_seconds=0).release()
        except LockHeld:
            if int(port) == 0:
                return "", ""  # it runs, at a port that nobody wrote down
            why = str(error) or "it hung up"
            return f"It runs, but does not answer at {host}:{port} ({why}).", ""
        return "It does not run, so no image can be received.", ""
    trouble = str(said.get("detail", "")) if said.get("code") == "disk_trouble" else ""
    return "", trouble if status != 200 else ""


def _status(host: str, port: int, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(64 * 1024)
    finally:
        connection.close()
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    return answer.status, said if isinstance(said, dict) else {}


def _is_loopback(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
