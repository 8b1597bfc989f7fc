"""The configuration of Celery, made from the settings. Pure.

Each gateway has a queue of its own: a message means this gateway's drain. Sources: Celery's "Using
Redis" and "Using Amazon SQS" pages and kombu's transports; Amazon's SQS developer guide on
visibility timeouts and dead-letter queues.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from headgate.settings.settings import Settings

TASK = "headgate.drain"
SOFT_SECONDS = 10
HARD_SECONDS = 2
"""Celery's own limits, so long before the next message is due: only if that was of no use."""
SLACK_SECONDS = 60
"""So much longer than a run may take a message stays invisible to others."""
MOST_DELIVERIES = 5
"""A message that ended its worker so often is put aside (SQS: maxReceiveCount in the template)."""
RESULTS_SECONDS = 86400

_AWS = re.compile(r"sqs[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True)
class Broker:
    """One queue on one broker. ``kind`` is "redis" or "sqs"."""

    kind: str
    url: str  # as Celery takes it
    queue: str
    queue_url: str = ""  # of SQS
    region: str = ""

    @property
    def dead(self) -> str:
        """The queue for messages that cannot be carried out. On SQS its redrive policy names
        it."""
        return f"{self.queue}-dead"


def broker(settings: Settings) -> Broker:
    """What ``queue.broker`` names; the settings were checked, so it is one of the known kinds."""
    url = settings.queue.broker
    if url.startswith(("redis://", "rediss://")):
        site = re.sub(r"[^A-Za-z0-9_-]", "-", settings.site.name)
        return Broker("redis", url, settings.queue.name or f"headgate-{site}")
    url = re.sub(r"^sqs://", "https://", url)
    parts = urlsplit(url)
    found = _AWS.fullmatch(parts.netloc)
    region = found[1] if found else settings.s3.region or "us-east-1"
    # An endpoint of one's own (a VPC's, a stand-in) is named; Amazon's follows from the region.
    server = "sqs://" if found else f"sqs://{parts.netloc}"
    return Broker("sqs", server, parts.path.rpartition("/")[2], url, region)


def time_limits(interval_seconds: int) -> tuple[int, int]:
    """Celery's soft and hard limit of a task: below the interval, so that runs never pile up."""
    return interval_seconds - SOFT_SECONDS, interval_seconds - HARD_SECONDS


def configuration(to: Broker, interval_seconds: int) -> Mapping[str, Any]:
    """Celery's settings for one gateway. Each that is not its default has its reason here."""
    soft, hard = time_limits(interval_seconds)
    return {
        "broker_url": to.url,
        "broker_transport_options": _transport(to, interval_seconds + SLACK_SECONDS),
        # The broker may be down when the machine starts, and for as long as it likes.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 10,
        # A drain needs no broker: it goes on, and the message that comes again is known by its id.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Nothing but JSON is read: pickle would run what a message says.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "result_accept_content": ["json"],
        # A message is done when its run has ended, not when it was fetched.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # What failed, or took too long, is left to the next message.
        "task_acks_on_failure_or_timeout": True,
        "task_soft_time_limit": soft,
        "task_time_limit": hard,
        # One at a time, and none fetched ahead: others wait in the queue, where they are seen.
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "task_default_queue": to.queue,
        "task_create_missing_queues": False,
        # Results: beside the queue on Redis, for a day; with SQS only on disk and in the log.
        "result_backend": to.url if to.kind == "redis" else None,
        "result_expires": RESULTS_SECONDS,
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 25,
        # Chatter between workers: there is one, and on SQS each kind would need a queue.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _transport(to: Broker, visibility_seconds: int) -> dict[str, Any]:
    if to.kind == "sqs":
        return {
            "region": to.region,
            "is_secure": not to.queue_url.startswith("http://"),
            # With the queue named, no right to list or create queues is needed.
            "predefined_queues": {to.queue: {"url": to.queue_url}},
            "wait_time_seconds": 20,  # the longest there is: the fewest requests to pay for
            "sqs_base64_encoding": False,  # so that a person can read what waits
            "visibility_timeout": visibility_seconds,  # the queue's own counts: the template's
        }
    return {
        # Longer than any run, or a message would be handed out twice while its run goes on.
        "visibility_timeout": visibility_seconds,
        # What a killed worker had comes back that much later, not within kombu's 100 s.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # Gateways that share a server restore their own messages only, by their own timeout.
        "unacked_key": f"{to.queue}.unacked",
        "unacked_index_key": f"{to.queue}.unacked_index",
        "unacked_mutex_key": f"{to.queue}.unacked_mutex",
        # A server that is gone without a word is noticed; otherwise the worker would wait forever.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "retry_on_timeout": True,
        "client_name": "headgate-worker",
    }
