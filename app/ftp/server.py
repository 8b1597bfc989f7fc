"""``headgate-ftp``: takes pictures by FTP and hands each one to the receiver of this machine.

A thread for each session, because a session waits for the receiver before it answers an upload.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import click

from app.admission.admission import Gate
from app.admission.login import device_of
from headgate.host import logs, terminal
from headgate.host.addresses import address_of
from headgate.host.exit_codes import Exit
from headgate.intake.hand_over import LocalReceiver
from headgate.settings.load import load, split_flags
from headgate.settings.settings import Settings, SettingsError
from headgate.spool.errors import DiskError, SpoolUnsuitable
from headgate.spool.spool import Spool

SESSIONS_MAX = 256

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


def fail(sentence: str) -> None:
    """End with one sentence that says what to do."""
    click.echo(terminal.escaped(f"headgate-ftp: {sentence}"), err=True)
    sys.exit(Exit.ERROR)


def serve(settings: Settings) -> None:
    """Listen until told to stop."""
    try:
        from pyftpdlib.servers import ThreadedFTPServer

        from app.ftp import session
    except ImportError:
        fail("its packages are not installed: make install EXTRAS=ftp")
        raise
    try:
        spool = Spool.open(settings)
    except (SpoolUnsuitable, DiskError) as error:
        fail(str(error))
        raise
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
        raise
    server.max_cons = SESSIONS_MAX
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logs.get().info(
        "ftp.started", bind=f"{address.host}:{server.address[1]}", tls=bool(chosen.certificate)
    )
    server.serve_forever()


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
@click.version_option(package_name="headgate")
def command(config: str | None, flags: tuple[str, ...]) -> None:
    """Receive pictures by FTP, and hand each to the receiver of this machine before answering."""
    try:
        settings = load(config, split_flags(flags))
    except SettingsError as error:
        for fault in error.faults:
            click.echo(terminal.escaped(f"headgate-ftp: {fault}"), err=True)
        raise SystemExit(Exit.USAGE) from error
    logs.configure(level=logging.INFO)
    logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())
    logging.getLogger("pyftpdlib").propagate = False
    serve(settings)


def main() -> None:
    """Entry point of the console script."""
    os.umask(0o007)
    command.main(prog_name="headgate-ftp")


if __name__ == "__main__":
    main()
