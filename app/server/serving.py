"""What the receiver's children do: prepare the spool, serve under granian, clean up after a death.

Each is called in a process of its own, after the fork, and imports there what it needs.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NoReturn

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from app import create_app
from app.admission.rate_limits import give_back_intake
from app.people.session_key import session_key
from app.server import signals
from app.server.supervisor import Death, Prepared
from app.upload.stalled import Stalls
from headgate.host import command_line, logs, set_clock
from headgate.host.addresses import Address
from headgate.host.board import PROCESS, SERVING, Board, Part
from headgate.intake.hand_over import leave_key
from headgate.settings.settings import Settings
from headgate.spool.errors import DiskError, LockHeld, SpoolUnsuitable
from headgate.spool.spool import Spool

HEADER_SECONDS = 75
"""For all of a request's header, and for a connection that says nothing between two requests: more
than ``KEEP_ALIVE_SECONDS``, which is announced to clients."""


def fail(sentence: str) -> NoReturn:
    """End this process with one sentence that says what to do."""
    command_line.complain("headgate-receiver", sentence)
    sys.stderr.flush()
    os._exit(1)


def prepare(settings: Settings, level: int, supervisor: int, report: socket.socket) -> None:
    """Open the spool, take the receiver lock for ``supervisor`` and recover; report all of it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    logs.configure(level=level)
    log = logs.get()
    try:
        spool = Spool.open(settings)
        lock = spool.hold_receiver_lock(pid=supervisor)
        recovered = spool.recover()
        leave_key(spool.site)
        session_key(spool.files.state)
        newest = spool.newest_known_at()
    except (SpoolUnsuitable, LockHeld, DiskError) as error:
        fail(str(error))
    if risk := spool.risk():
        log.warning("spool.unsafe", reason=str(risk))
    clock = set_clock.wait(
        lambda: set_clock.doubt(spool.now(), newest),
        lambda: False,
        lambda why: log.warning("clock.awaited", reason=why, seconds=set_clock.WAIT_SECONDS),
    )
    # An image under the wrong day is better than none, and says so.
    if clock := spool.mark_arrivals(newest) or clock:
        log.warning("clock.wrong", reason=clock)
    stamp = None if newest is None else newest.timestamp()
    found = Prepared(recovered.cut_off, recovered.restored, stamp)
    socket.send_fds(report, [json.dumps(asdict(found)).encode()], list(lock.descriptors))
    spool.close()


def serve(
    settings: Settings,
    level: int,
    address: Address,
    connections: int,
    board: Board,
    prepared: Prepared,
    *,
    first: bool,
) -> None:
    """Serve as the process that the board is for, until SIGTERM; ``first``: none did before it."""
    logs.configure(level=level)
    try:
        spool = Spool.open(settings, board=board)
    except (SpoolUnsuitable, DiskError) as error:
        fail(str(error))
    newest = prepared.newest_known_at
    spool.mark_arrivals(None if newest is None else datetime.fromtimestamp(newest, UTC))
    spool.start_chores()
    stalls = Stalls(address.port)
    threading.Thread(
        target=stalls.watch, args=(threading.Event(),), name="stalls", daemon=True
    ).start()
    app = create_app(spool, stalls, signals.stopping)
    gc.collect()
    gc.freeze()  # what stays for good is not looked at again
    board.own(PROCESS)[SERVING] = 1
    with board.lock(Part.START):  # until all are ready
        pass
    if first and board.number == 0:
        logs.get().info(
            "receiver.started",
            url=address.url,
            spool=str(spool.path),
            processes=board.processes,
            cut_off=prepared.cut_off,
            restored=prepared.restored,
        )
    elif not first:
        logs.get().info("process.started", process=board.number)
    _here(address, settings.receiver.threads, connections).serve(
        target_loader=lambda: app, wrap_loader=False
    )


def clean_up(settings: Settings, level: int, board: Board, death: Death) -> None:
    """Make good the death of a process that served, which the board is for."""
    logs.configure(level=level)
    how = f"exit code {death.code}"
    if death.code < 0:
        how = signal.Signals(-death.code).name
    give_back_intake(board, death.number)
    try:
        spool = Spool.open(settings, create=False, probe=False, board=board)
        recovered = spool.recover_from(death.number)
        spool.close()
    except (SpoolUnsuitable, DiskError) as error:
        fail(str(error))
    logs.get().error(
        "process.died",
        process=death.number,
        pid=death.pid,
        how=how,
        cut_off=recovered.cut_off,
        restored=recovered.restored,
        pause=death.pause,
    )


class _Here(Granian):  # type: ignore[misc, valid-type]
    """granian's server with its one worker in this process, instead of in one that it forks: so
    each process has a listening socket of its own, and the kernel spreads connections over them
    (SO_REUSEPORT, socket(7)). Of one socket that all wait at, one process takes nearly all."""

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        signals.take_signals()  # the handler until now is not the one that stops the worker
        worker = self._spawn_worker(idx=0, target=spawn_target, callback_loader=target_loader)
        worker.inner.run()
        self.signal_handler_interrupt()


def _here(address: Address, threads: int, connections: int) -> _Here:
    return _Here(
        "app.server.serving",
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
    )
