"""``headgate-ftp``: takes pictures by FTP and hands each one to the receiver of this machine.

A thread for each session, because a session waits for the receiver before it answers an upload.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

import click

from app.admission.admission import Gate
from app.admission.login import device_of
from headgate.host import command_line, logs
from headgate.host.addresses import address_of
from headgate.host.exit_codes import Exit
from headgate.intake.hand_over import LocalReceiver
from headgate.settings.settings import Settings
from headgate.spool.errors import DiskError, SpoolUnsuitable
from headgate.spool.spool import Spool

SESSIONS_MAX = 256

PROGRAM = "headgate-ftp"

_ENDING = """\b
Examples:
  headgate-ftp
  headgate-ftp --set ftp.bind=0.0.0.0:21 --set ftp.passive_ports=50000-50099

\b
Exit codes:
  0   stopped by a signal
  1   it cannot start; the message says what to do
  2   wrong flags or settings
"""


def fail(sentence: str) -> NoReturn:
    """End with one sentence that says what to do."""
    command_line.complain(PROGRAM, sentence)
    sys.exit(Exit.ERROR)


def serve(settings: Settings) -> None:
    """Listen until told to stop."""
    try:
        from pyftpdlib.servers import ThreadedFTPServer

        from app.ftp import session
    except ImportError:
        fail("its packages are not installed: make install EXTRAS=ftp")
    try:
        spool = Spool.open(settings)
    except (SpoolUnsuitable, DiskError) as error:
        fail(str(error))
    gate = Gate(spool)
    chosen = settings.ftp
    kind = session.SecureSession if chosen.certificate else session.Session
    kind.receiver = LocalReceiver(spool)
    kind.authorizer = session.Logins(
        lambda peer, user, password: device_of(spool, gate, peer, user, password)
    )
    kind.abstracted_fs.folder = spool.files.tmp
    kind.abstracted_fs.limit = settings.receiver.max_image
    kind.passive_ports = chosen.passive_ports or None
    kind.masquerade_address = chosen.passive_address or None
    if chosen.certificate:
        kind.certfile, kind.keyfile = chosen.certificate, chosen.key or chosen.certificate
        kind.tls_control_required = kind.tls_data_required = chosen.require_tls
    address = address_of(chosen.bind)
    try:
        server = ThreadedFTPServer((address.host, address.port), kind)
    except OSError as error:
        fail(f"{chosen.bind} cannot be listened on: {error.strerror}; set ftp.bind to another")
    server.max_cons = SESSIONS_MAX
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logs.get().info(
        "ftp.started", bind=f"{address.host}:{server.address[1]}", tls=bool(chosen.certificate)
    )
    server.serve_forever()


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_ENDING)
@command_line.options("this start")
@click.version_option(package_name="headgate")
def command(config: str | None, flags: tuple[str, ...]) -> None:
    """Receive pictures by FTP, and hand each to the receiver of this machine before answering."""
    settings = command_line.settings_of(PROGRAM, config, flags)
    logs.configure(level=logging.INFO)
    logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())
    logging.getLogger("pyftpdlib").propagate = False
    serve(settings)


def main() -> None:
    """Entry point of the console script."""
    os.umask(0o007)
    command.main(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
