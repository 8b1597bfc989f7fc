"""A program beside the receiver that takes pictures in another way: headgate-ftp, headgate-smtp."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.environment import PYTHON_PATH
from tests.support.receiver import Receiver, environment
from tests.support.wait import wait_until


@contextlib.contextmanager
def companion(
    name: str, receiver: Receiver, folder: Path, settings: Mapping[str, str], packages: str = ""
) -> Iterator[tuple[int, Path]]:
    """``app.NAME.server`` on a free port, with its port and its log; ends when told to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "spool.path": str(receiver.spool),
        "receiver.bind": f"127.0.0.1:{receiver.port}",
        f"{name}.bind": f"127.0.0.1:{port}",
        **settings,
    }
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    log = folder / f"{name}.log"
    path = os.pathsep.join(filter(None, [packages, PYTHON_PATH]))
    with log.open("wb") as out, subprocess.Popen(
        [sys.executable, "-m", f"app.{name}.server", *flags],
        stdout=out, stderr=out, env=environment() | {"PYTHONPATH": path}, cwd=folder,
    ) as process:  # fmt: skip
        try:

            def listens() -> bool:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    return True
                return False

            wait_until(listens, f"headgate-{name} listens")
            yield port, log
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
