"""The gateways' reports in Redis: each publishes its own, any of them reads all.

Redis stamps a report when it arrives, so that no gateway's clock counts. A report ends after a
week, and a gateway is forgotten with it; ``forget`` does so at once.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from headgate.host.foreign_json import read_json
from headgate.monitor.fleet import SILENT, Fleet, GatewayReport, fleet
from headgate.shared.connection import connect, disconnect, troubles
from headgate.shared.keys import key
from headgate.shared.memory import life_key

TIMEOUT_SECONDS = 2.0
"""For each step; a command waits for it, no upload and no run."""
KEEP = timedelta(days=7)
TAKEN = timedelta(minutes=5)
"""How long a gateway that told of a silent one may be silent itself, until another one does."""


class Reports:
    """The reports of one site. SharedTrouble for whatever goes wrong."""

    def __init__(self, url: str, site: str) -> None:
        self._client = connect(url, timeout_seconds=TIMEOUT_SECONDS)
        self._site = site
        self._reports, self._seen = key(site, "reports"), key(site, "gateways")

    def publish(self, report: GatewayReport) -> None:
        """This gateway's report, in place of its last one."""
        with troubles(self._client):
            now = self._now()
            before = (now - KEEP).timestamp()
            ended = cast("list[str]", self._client.zrangebyscore(self._seen, 0, before))
            with self._client.pipeline(transaction=True) as steps:
                if ended:
                    steps.hdel(self._reports, *ended)
                    steps.zrem(self._seen, *ended)
                steps.hset(self._reports, report.gateway, json.dumps(report.encode()))
                steps.zadd(self._seen, {report.gateway: now.timestamp()})
                steps.expire(self._reports, KEEP)
                steps.expire(self._seen, KEEP)
                steps.execute()

    def read(self) -> Fleet:
        """All gateways of the site."""
        with troubles(self._client):
            now = self._now()
            at = self._all_seen()
            held = cast("dict[str, str]", self._client.hgetall(self._reports))
        reports = []
        for text in held.values():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # of another version
                found: Any = read_json(text)
                reports.append(GatewayReport.decode(found))
        return fleet(at, reports, now)

    def take_silent(self, who: str) -> dict[str, datetime]:
        """When each silent gateway last reported, of those that ``who`` is to tell of: the first
        that asks about one, as long as it goes on asking. Itself is none of them."""
        taken = {}
        with troubles(self._client):
            now = self._now()
            for name, at in self._all_seen().items():
                claim = key(self._site, "silent", name)
                if name == who or now - at <= SILENT:
                    continue
                if self._client.set(claim, who, nx=True, px=TAKEN):
                    taken[name] = at
                elif self._client.get(claim) == who:
                    self._client.pexpire(claim, TAKEN)
                    taken[name] = at
        return taken

    def forget(self, gateway: str) -> bool:
        """Forget a gateway that was taken away, and the images that it said it has; False: none of
        this name was known."""
        with troubles(self._client), self._client.pipeline(transaction=True) as steps:
            steps.hdel(self._reports, gateway)
            steps.zrem(self._seen, gateway)
            steps.delete(life_key(self._site, gateway))
            return bool(steps.execute()[1])

    def close(self) -> None:
        """Give the connection up."""
        disconnect(self._client)

    def _all_seen(self) -> dict[str, datetime]:
        """When each gateway last reported."""
        seen = cast("list[tuple[str, float]]", self._client.zrange(
            self._seen, 0, -1, withscores=True
        ))  # fmt: skip
        return {name: datetime.fromtimestamp(score, UTC) for name, score in seen}

    def _now(self) -> datetime:
        seconds, micros = self._client.time()
        return datetime.fromtimestamp(seconds + micros / 1e6, UTC)
