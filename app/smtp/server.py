"""``headgate-smtp``: takes mail of cameras, and hands its pictures to the receiver here.

A mail is acknowledged only when the receiver holds all of its pictures. Mail is neither kept nor
passed on: who a mail is to makes no difference.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import click

from app.admission.admission import Gate
from app.admission.login import device_of
from app.refusals import Refused
from app.smtp import pictures
from headgate.host import command_line, logs
from headgate.host.addresses import address_of
from headgate.host.exit_codes import Exit
from headgate.intake.hand_over import HandedOver, LocalReceiver, Outcome, Sent
from headgate.settings.settings import Settings
from headgate.settings.units import counted
from headgate.spool.errors import DiskError, SpoolUnsuitable
from headgate.spool.spool import Spool

SECONDS = 120
"""After so long without a line a session ends."""
MAILS_MAX = 8
"""Mails that arrive at the same time, because a mail is held in memory; others wait."""
OVERHEAD = 1024 * 1024
_REPLY_MAX = 400

PROGRAM = "headgate-smtp"

_ENDING = """\b
Examples:
  headgate-smtp
  headgate-smtp --set smtp.bind=0.0.0.0:25

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


class Mailbox:
    """What the library asks: who may send, and what becomes of a mail."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._gate = Gate(spool)
        self._receiver = LocalReceiver(spool)
        self._folder: Path = spool.files.tmp
        self._log = logs.get()

    def authenticate(self, _server: Any, session: Any, _envelope: Any, _how: str, data: Any) -> Any:
        """A device with its token (AUTH PLAIN or LOGIN, RFC 4954)."""
        from aiosmtpd.smtp import AuthResult, LoginPassword

        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        user, password = (text.decode(errors="replace") for text in (data.login, data.password))
        try:
            session.device = device_of(self._spool, self._gate, session.peer[0], user, password)
        except Refused as refused:
            self._log.info("smtp.refused", peer=session.peer[0], reason=refused.sentence)
            return AuthResult(success=False, handled=False)
        return AuthResult(success=True)

    async def handle_MAIL(
        self, _server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take the sender's name as the device's, without a log-in and where none is needed."""
        if not getattr(session, "device", ""):
            name = address.partition("@")[0]
            try:
                session.device = device_of(self._spool, self._gate, session.peer[0], name, None)
            except Refused as refused:
                return f"530 5.7.0 {_one_line(refused.sentence)}"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        """Answered when the receiver holds what there is to hold."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self.take, envelope.content, session.device)

    def take(self, raw: bytes, device: str) -> str:
        """Hand a mail's pictures over; the reply (RFC 5321, 4.2)."""
        mail = pictures.read(raw)
        found = [self._hand_over(name, data, device) for name, data in mail.pictures]
        self._log.info(
            "smtp.mail", device=device, pictures=len(found), held=sum(one.is_here for one in found)
        )
        for one in found:
            if one.outcome is Outcome.LATER:
                return f"451 4.3.0 {_one_line(one.sentence)}"
        refused = [one.sentence for one in found if not one.is_here]
        if refused and len(refused) == len(found):
            return f"554 5.6.0 {_one_line(refused[0])}"
        if not found and mail.others:
            return "554 5.6.0 No attachment of this mail is a picture."
        if not found:  # a camera that tests its settings
            return "250 There is no picture in it."
        return f"250 {len(found) - len(refused)} of {counted(len(found), 'picture')} stored."

    def _hand_over(self, name: str, data: bytes, device: str) -> HandedOver:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(data)
            file.flush()
            return self._receiver.hand_over(file, Sent(device=device, file_name=name))


def _one_line(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())[:_REPLY_MAX]


def serve(settings: Settings) -> None:
    """Listen until told to stop."""
    try:
        import aiosmtpd.smtp
    except ImportError:
        fail("its packages are not installed: make install EXTRAS=smtp")
    try:
        spool = Spool.open(settings)
    except (SpoolUnsuitable, DiskError) as error:
        fail(str(error))
    chosen = settings.smtp
    context = None
    if chosen.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(chosen.certificate, chosen.key or None)
        except OSError as error:
            fail(f"smtp.certificate: {chosen.certificate} cannot be used: {error}")
    mailbox = Mailbox(spool)

    class Session(aiosmtpd.smtp.SMTP):
        """One SMTP connection."""

        room = asyncio.Semaphore(MAILS_MAX)

        async def smtp_DATA(self, arg: str) -> None:
            async with self.room:
                await super().smtp_DATA(arg)

    def session() -> Session:
        return Session(
            mailbox,
            data_size_limit=settings.receiver.max_image * 3 // 2 + OVERHEAD,
            enable_SMTPUTF8=True,
            ident="headgate",
            tls_context=context,
            require_starttls=chosen.require_tls and context is not None,
            auth_require_tls=chosen.require_tls,
            authenticator=mailbox.authenticate,
            timeout=SECONDS,
        )

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for told in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(told, stop.set)
        address = address_of(chosen.bind)
        try:
            server = await loop.create_server(session, address.host, address.port)
        except OSError as error:
            fail(f"{chosen.bind} cannot be listened on: {error}; set smtp.bind to another")
        logs.get().info("smtp.started", bind=chosen.bind, tls=context is not None)
        async with server:
            await stop.wait()

    asyncio.run(listen())


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_ENDING)
@command_line.options("this start")
@click.version_option(package_name="headgate")
def command(config: str | None, flags: tuple[str, ...]) -> None:
    """Receive pictures by mail, and hand each to the receiver of this machine before answering."""
    settings = command_line.settings_of(PROGRAM, config, flags)
    logs.configure(level=logging.INFO)
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    serve(settings)


def main() -> None:
    """Entry point of the console script."""
    os.umask(0o007)
    command.main(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
