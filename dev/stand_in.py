"""The S3 stand-in of a checkout, and the environment that leads a drain to it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from dev.children import Child, wait_until_it_listens
from headgate.host.addresses import free_port

BUCKET = "headgate-stand-in"
KEY = "stand-in"  # it believes anybody


class StandIn:
    """``python -m dev.s3_local`` on a free port of loopback, its objects kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.child = Child(
            "s3-local",
            [
                sys.executable,
                "-m",
                "dev.s3_local",
                "--bind",
                f"127.0.0.1:{self.port}",
                "--dir",
                str(folder),
                "--bucket",
                BUCKET,
            ],
            environment("AWS_"),
        )

    def wait(self) -> None:
        """Return once it answers; ChildDied if it does not. Then others may find it."""
        wait_until_it_listens(self.child, "127.0.0.1", self.port)
        noted(self.folder).write_text(self.endpoint)

    def variables(self) -> dict[str, str]:
        """What leads a drain there, and to nobody else."""
        return leading_to(self.endpoint)


def noted(folder: Path) -> Path:
    """Where the stand-in that keeps its objects here says that it listens."""
    return folder.with_name(f"{folder.name}-endpoint")


def named(endpoint: str) -> dict[str, str]:
    """The settings that name the stand-in."""
    return {"HEADGATE_S3_BUCKET": BUCKET, "HEADGATE_S3_ENDPOINT_URL": endpoint}


def leading_to(endpoint: str) -> dict[str, str]:
    """What leads a drain to the stand-in that listens there."""
    return {
        **named(endpoint),
        "HEADGATE_S3_REGION": "us-east-1",
        "HEADGATE_S3_PROFILE": "",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
    }


def listening(folder: Path) -> str:
    """The endpoint of the stand-in that serves this folder now, or ""."""
    try:
        endpoint = noted(folder).read_text().strip()
        with socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])), 2):
            return endpoint
    except (OSError, ValueError):
        return ""


def environment(*without: str) -> dict[str, str]:
    """This process's environment without the variables that begin so."""
    return {name: value for name, value in os.environ.items() if not name.startswith(without)}
