"""``headgate-receiver``: the command, its settings and its address. Then it supervises the
processes that serve (``app.server.supervisor``).

What those need is imported by them, after the fork: this process stays for as long as the receiver
runs, and is small.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import sys
import time
from typing import NoReturn

import click

from app.server.supervisor import Death, Prepared, Supervisor, Work
from headgate.host import command_line, cores
from headgate.host.addresses import Address, address_of
from headgate.host.board import PROCESSES_MOST, Board
from headgate.settings.settings import Settings

CONNECTIONS_PER_THREAD = 4
"""Connections let in for each thread; those that are idle or still send headers hold no thread."""

_ENDING = """\b
Examples:
  headgate-receiver
  headgate-receiver --set receiver.bind=0.0.0.0:8080
  headgate-receiver --config /etc/headgate/headgate.toml

\b
Exit codes:
  0   stopped by a signal
  1   it cannot start, or its disk is unusable; the message says what to do
  2   wrong flags or settings
"""


PATIENCE_SECONDS = 5.0
"""How long a port may be taken before that is an error."""


def fail(sentence: str) -> NoReturn:
    """End this process with one sentence that says what to do."""
    command_line.complain("headgate-receiver", sentence)
    sys.stderr.flush()
    os._exit(1)


def reserve(wanted: Address) -> tuple[socket.socket, Address]:
    """``wanted`` with its port, which is ours for as long as the socket is open; OSError if someone
    goes on listening there.

    A receiver that was killed, and is started again at once, finds its old processes ending: they
    listen until their last call of the disk returns.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _reserved(wanted)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise
        time.sleep(0.05)


def _reserved(wanted: Address) -> tuple[socket.socket, Address]:
    """The processes that serve bind with SO_REUSEPORT, with which two receivers would share a port
    without a word. So it is tried without that first."""
    found = socket.getaddrinfo(
        wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, name = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(name)
        probe.listen(1)
        name = probe.getsockname()
    held = socket.socket(family, kind, protocol)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(name)
    host, port = name[:2]
    return held, Address(str(host), int(port))


def processes(settings: Settings) -> int:
    """How many processes serve."""
    wanted = settings.receiver.processes
    return min(PROCESSES_MOST, cores.available()) if wanted == "auto" else wanted


def run(settings: Settings, level: int = logging.INFO) -> int:
    """Receive until told to stop (SIGTERM or Ctrl-C); uploads in flight are finished. The exit
    code."""
    bind = settings.receiver.bind
    try:
        held, address = reserve(address_of(bind))
    except OSError as error:
        fail(_why_not(bind, error))
    connections = max(1024, settings.receiver.threads * CONNECTIONS_PER_THREAD)
    _raise_open_files(connections * 2)
    board = Board.shared(processes(settings))
    supervisor = os.getpid()

    def prepare(report: socket.socket) -> None:
        from app.server import serving

        serving.prepare(settings, level, supervisor, report)

    def serve(number: int, prepared: Prepared, first: bool) -> None:
        from app.server import serving

        serving.serve(
            settings, level, address, connections, board.of(number), prepared, first=first
        )

    def clean_up(death: Death) -> None:
        from app.server import serving

        serving.clean_up(settings, level, board.of(death.number), death)

    with held:
        return Supervisor(board, Work(prepare, serve, clean_up)).run()


def _why_not(bind: str, error: OSError) -> str:
    host, _, port = bind.rpartition(":")
    if error.errno == errno.EADDRINUSE:
        other = f"{host}:{int(port) + 1}"
        return (
            f"port {port} is taken on {host}; choose another with --set receiver.bind={other} or "
            f"HEADGATE_RECEIVER_BIND={other}, or stop what listens there"
        )
    if error.errno == errno.EACCES:
        return (
            f"{bind} needs more rights; choose a port above 1023: --set receiver.bind={host}:8080"
        )
    return (
        f"cannot listen on {bind} ({error.strerror or error}); choose an address of this machine "
        "with --set receiver.bind=127.0.0.1:8080"
    )


def _raise_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_ENDING)
@command_line.options("this start")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Also log the answer to every upload.")
@click.version_option(package_name="headgate")
def receiver(config: str | None, flags: tuple[str, ...], quiet: bool, verbose: bool) -> None:
    """Receive a site's images and store each one safely on disk before answering.

    On SIGTERM or Ctrl-C it finishes the uploads in progress.
    """
    if quiet and verbose:
        raise click.UsageError("use --quiet or --verbose, not both")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    raise SystemExit(run(command_line.settings_of("headgate-receiver", config, flags), level))


def main() -> None:
    """Entry point of the console script."""
    os.umask(0o007)  # two users share the spool through its group; no one else reads it
    receiver.main(prog_name="headgate-receiver")
