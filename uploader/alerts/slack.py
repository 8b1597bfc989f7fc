"""Slack, by an incoming webhook: one POST of JSON; its errors as Slack documents them
(https://api.slack.com/messaging/webhooks#handling_errors)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from headgate.spool.site.alerts import Message
from uploader.alerts.channel import DeliveryError
from uploader.alerts.messages import slack_text
from uploader.wire import one_shot
from uploader.wire.errors import SendError
from uploader.wire.meter import Meter

_WAIT_AT_MOST = 3600.0


@dataclass(frozen=True, slots=True)
class Slack:
    """A channel for one Slack webhook. Its URL is a secret, so no sentence names it."""

    webhook: str
    name: str = "slack"

    def send(self, message: Message, pacer: Meter) -> None:
        """Make one attempt to post a message. DeliveryError."""
        body = json.dumps({"text": slack_text(message)}).encode("ascii")
        headers = {"Content-Type": "application/json; charset=utf-8"}
        try:
            answer = one_shot.ask("POST", self.webhook, pacer, body, headers)
        except SendError as error:
            raise DeliveryError(error.message) from error
        if answer.status == 200 and answer.body.strip() == b"ok":
            return
        if answer.status == 200:  # a portal or a proxy answers in Slack's place
            raise DeliveryError(
                "the answer 200 is not from Slack, which says ok: a proxy or portal answers "
                "instead; let it through, or correct alerts.slack_webhook"
            )
        said = re.sub(r"[^a-z_]+", " ", answer.body[:60].decode("ascii", "replace")).strip()
        what = f"Slack answers {answer.status}{f' ({said})' if said else ''}"
        if answer.status == 429:
            wait = answer.headers.get("retry-after", "")
            seconds = float(wait) if wait.isdecimal() else 30.0
            raise DeliveryError(
                f"{what}: too many messages; it said when to retry",
                wait_seconds=min(_WAIT_AT_MOST, max(1.0, seconds)),
            )
        if answer.status in (403, 404, 410):
            raise DeliveryError(
                f"{what}: this webhook is dead; make a new one and set alerts.slack_webhook",
                dead=True,
            )
        if answer.status in (400, 413):
            raise DeliveryError(f"{what}: it does not accept this message", unfit=True)
        raise DeliveryError(f"{what}; it will be retried")
