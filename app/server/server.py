"""``headgate-receiver``: the receiver under a production WSGI server (granian), in one serving
process.

The process that serves opens the spool, takes the receiver lock and recovers before it listens.
It dies with its parent, so that a killed receiver holds neither the port nor the lock.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from functools import partial
from typing import Any

import click
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from app import create_app
from app.server import signals
from app.upload.stalled import Stalls
from headgate.host import logs, set_clock, terminal
from headgate.host.addresses import Address, address_of
from headgate.host.processes import end_with_parent
from headgate.intake.hand_over import leave_key
from headgate.settings.load import load, split_flags
from headgate.settings.settings import Settings, SettingsError
from headgate.spool.errors import DiskError, LockHeld, SpoolUnsuitable
from headgate.spool.spool import Spool

HEADER_SECONDS = 75
"""For all of a request's header, and for a connection that says nothing between two requests: more
than ``KEEP_ALIVE_SECONDS``, which is announced to clients."""

STOP_SECONDS = 75
"""For uploads in flight when told to stop: longer than a body of a usual pace takes."""

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


def fail(sentence: str) -> None:
    """End this process with one sentence that says what to do."""
    click.echo(terminal.escaped(f"headgate-receiver: {sentence}"), err=True)
    sys.stderr.flush()
    os._exit(1)


def _free_address(wanted: Address) -> Address:
    """``wanted`` with its port, after making sure that no one listens there; OSError if someone
    does.

    The server sets SO_REUSEPORT, with which two receivers would share a port without a word.
    """
    found = socket.getaddrinfo(
        wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, name = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(name)
        probe.listen(1)
        host, port = probe.getsockname()[:2]
    return Address(str(host), int(port))


def serving_application(settings: Settings, parent: int, address: Address, level: int) -> Any:
    """Called in the process that serves, after any fork and before it listens."""
    end_with_parent(parent, signal.SIGKILL)
    signals.take_signals()
    logs.configure(level=level)
    log = logs.get()
    try:
        spool = Spool.open(settings)
        lock = spool.hold_receiver_lock()
        recovered = spool.recover()
        leave_key(spool.site)
        spool.start_chores()
    except (SpoolUnsuitable, LockHeld, DiskError) as error:
        fail(str(error))
        raise
    if risk := spool.risk():
        log.warning("spool.unsafe", reason=str(risk))
    clock = set_clock.wait(
        lambda: set_clock.doubt(spool.now(), spool.newest_known_at()),
        signals.stopping,
        lambda why: log.warning("clock.awaited", reason=why, seconds=set_clock.WAIT_SECONDS),
    )
    # An image under the wrong day is better than none, and says so.
    if clock := spool.mark_arrivals() or clock:
        log.warning("clock.wrong", reason=clock)
    stalls = Stalls(address.port)
    threading.Thread(
        target=stalls.watch, args=(threading.Event(),), name="stalls", daemon=True
    ).start()
    log.info(
        "receiver.started",
        url=address.url,
        spool=str(spool.path),
        cut_off=recovered.cut_off,
        restored=recovered.restored,
    )
    app = create_app(spool, stalls, signals.stopping)
    app.extensions["receiver.lock"] = lock  # held until this process ends
    gc.collect()
    gc.freeze()  # what stays for good is not looked at again
    return app


def serve(settings: Settings, level: int = logging.INFO) -> None:
    """Listen until told to stop (SIGTERM or Ctrl-C); uploads in flight are finished."""
    bind = settings.receiver.bind
    try:
        address = _free_address(address_of(bind))
    except OSError as error:
        fail(_why_not(bind, error))
        raise
    threads = settings.receiver.threads
    connections = max(1024, threads * CONNECTIONS_PER_THREAD)
    _raise_open_files(connections * 2)
    server = Granian(
        "app.server.server",
        address=address.host,
        port=address.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads,
        backlog=1024,
        backpressure=connections,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=64 * 1024
        ),
        websockets=False,
        log_enabled=False,
        workers_kill_timeout=STOP_SECONDS,
    )
    server.main_loop_interrupt = signals.PatientEvent()
    server.signal_handler_interrupt = signals.once(server.signal_handler_interrupt)  # type: ignore[method-assign]
    target = partial(serving_application, settings, os.getpid(), address, level)
    try:
        server.serve(target_loader=target, wrap_loader=False)
    except SystemExit:
        if not server.interrupt_signal:
            raise
        # Told to stop together with the process that serves, which was the faster one.
    finally:
        signals.ignore_further()


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
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_ENDING)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(),
    help="The settings file (default: headgate.toml here, then in /etc/headgate).",
)
@click.option(
    "--set",
    "flags",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override one setting for this start; may be repeated.",
)
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
    try:
        settings = load(config, split_flags(flags))
    except SettingsError as error:
        for fault in error.faults:
            click.echo(terminal.escaped(f"headgate-receiver: {fault}"), err=True)
        raise SystemExit(2) from error
    logs.configure(level=level)
    serve(settings, level)


def main() -> None:
    """Entry point of the console script."""
    os.umask(0o007)  # two users share the spool through its group; no one else reads it
    receiver.main(prog_name="headgate-receiver")
