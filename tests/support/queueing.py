"""Brokers and workers for tests: Redis, moto's SQS, and ``headgate worker`` in a process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.support.gateway import Gateway
from tests.support.wait import wait_until

WANTED = os.environ.get("HEADGATE_TEST_QUEUE") == "1"
needs_queue = pytest.mark.skipif(
    not WANTED, reason="HEADGATE_TEST_QUEUE=1 is not set: this starts brokers, and takes minutes"
)
needs_redis = pytest.mark.skipif(
    not shutil.which("redis-server"), reason="there is no redis-server: apt-get install it"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Redis:
    """Debian's redis-server on a free port, with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Redis:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._answers, "redis-server answers", process=self.process)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port, decode_responses=True)

    def put(self, queue: str, *messages: dict[str, Any]) -> None:
        """Into the queue as a producer does that knows nothing of Celery."""
        with self.client() as client:
            client.lpush(queue, *[json.dumps(message) for message in messages])

    def taken(self, queue: str) -> int:
        """Messages that a worker has and has not acknowledged."""
        with self.client() as client:
            return int(client.hlen(f"{queue}.unacked"))

    def waiting(self, queue: str) -> int:
        with self.client() as client:
            return int(client.llen(queue))

    def result(self, task: str) -> dict[str, Any] | None:
        with self.client() as client:
            text = client.get(f"celery-task-meta-{task}")
        return None if text is None else json.loads(text)


class Sqs:
    """moto's server with a queue for this gateway, as the template makes it."""

    def __init__(self, queue: str, *, visibility_seconds: int, most_receives: int = 5) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.client = boto3.client(
            "sqs", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        # Its queues are the process's: those of an earlier test are still there.
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60).raise_for_status()
        self.dead_url = self.client.create_queue(QueueName=f"{queue}-dead")["QueueUrl"]
        dead = self.client.get_queue_attributes(
            QueueUrl=self.dead_url, AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        redrive = {"deadLetterTargetArn": dead, "maxReceiveCount": most_receives}
        self.url = self.client.create_queue(
            QueueName=queue,
            Attributes={
                "VisibilityTimeout": str(visibility_seconds),
                "RedrivePolicy": json.dumps(redrive),
            },
        )["QueueUrl"]

    def close(self) -> None:
        self.client.close()
        self._server.stop()

    def send(self, body: str) -> None:
        self.client.send_message(QueueUrl=self.url, MessageBody=body)

    def count(self, url: str, *, in_flight: bool = False) -> int:
        name = "ApproximateNumberOfMessages" + ("NotVisible" if in_flight else "")
        found = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(found["Attributes"][name])


class Worker:
    """``headgate worker`` for this gateway; its log is a file."""

    def __init__(self, gateway: Gateway, *flags: str) -> None:
        self.log = gateway.root / f"worker-{time.monotonic_ns()}.log"
        environment = gateway.environment() | {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                gateway.command("worker", *flags), env=environment, cwd=gateway.root,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def events(self, name: str = "") -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in found if name in ("", one["event"])]

    def until(self, met: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        """What ``met`` gives when it gives something; in vain, a failure with the log."""
        return wait_until(met, what, seconds, detail=self.log.read_text)

    def ended(self) -> list[dict[str, Any]]:
        """What came of each message so far."""
        return self.events("job.ended")

    def ready(self) -> Worker:
        wait_until(
            lambda: "ready." in self.log.read_text(), "the worker is ready",
            process=self.process, detail=self.log.read_text,
        )  # fmt: skip
        return self

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(90)


@contextlib.contextmanager
def working(gateway: Gateway, *flags: str) -> Iterator[Worker]:
    """A worker that takes messages, and is gone afterwards."""
    worker = Worker(gateway, *flags)
    try:
        yield worker.ready()
    finally:
        worker.stop(signal.SIGKILL)


def drain_pid(gateway: Gateway) -> int:
    """The drain that holds the lock; 0 if none does."""
    note = gateway.spool.files.state / "drain.lock"
    text = note.read_text() if note.exists() else ""
    if "headgate drain" not in text:
        return 0
    pid = int(text.rpartition("pid ")[2] or 0)
    return pid if pid and Path(f"/proc/{pid}").exists() else 0
