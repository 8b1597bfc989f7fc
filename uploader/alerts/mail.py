"""Mail by SMTP: one session a message, over the metered wire; threaded, so that an alert, its
reminders and its recovery stand together."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from headgate.spool.site.alerts import Message
from uploader.alerts.channel import DeliveryError
from uploader.wire.connection import Answered, Wire
from uploader.wire.dialing import connect
from uploader.wire.meter import Meter

_PORTS = {"smtp": 25, "smtps": 465}
_CONNECT_SECONDS, _STALL_SECONDS = 10.0, 30.0


@dataclass(frozen=True, slots=True)
class _Tls:
    """What ``smtplib.starttls`` asks to wrap the socket; ours wraps the wire."""

    context: ssl.SSLContext

    def wrap_socket(self, wire: Wire, server_hostname: str) -> Wire:
        return wire.secured(self.context, server_hostname)


class _Session(smtplib.SMTP):
    """``smtplib``'s session over a metered wire."""

    def __init__(self, host: str, port: int, pacer: Meter, tls: ssl.SSLContext | None) -> None:
        self._pacer, self._tls = pacer, tls
        super().__init__(host, port, local_hostname=_own_name(), timeout=_STALL_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        sock = connect(host, port, timeout=_CONNECT_SECONDS, stall=timeout)
        try:
            return Wire(sock, self._pacer, stall=timeout, tls=self._tls, server_name=host)
        except BaseException:
            sock.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        """Read all lines of one reply, within ``_STALL_SECONDS`` however they come."""
        wire: Any = self.sock  # or None, which super() complains of
        if wire is not None:
            wire.expect(_STALL_SECONDS)
        return super().getreply()


@dataclass(frozen=True, slots=True)
class Mail:
    """A channel for one mail server and its recipients. The URL may hold a password: no sentence
    names it."""

    url: str
    to: tuple[str, ...]
    sender: str = ""
    site: str = "site"
    name: str = "mail"

    def send(self, message: Message, pacer: Meter) -> None:
        """Make one attempt to send a mail. DeliveryError."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        context = ssl.create_default_context()
        try:
            session = _Session(host, port, pacer, context if parts.scheme == "smtps" else None)
            try:
                if parts.scheme == "smtp":
                    session.ehlo_or_helo_if_needed()
                    if session.has_extn("starttls"):
                        session.starttls(context=_Tls(context))  # type: ignore[call-overload]
                    elif parts.username:
                        raise DeliveryError(
                            f"{host} offers no TLS, which is required to send a password; use "
                            "smtps:// in alerts.smtp_url, or another server",
                            dead=True,
                        )
                if parts.username:
                    session.login(unquote(parts.username), unquote(parts.password or ""))
                session.send_message(self.letter(message), self._from(), list(self.to))
            finally:
                session.close()
        except ssl.SSLCertVerificationError as error:
            raise DeliveryError(
                f"the certificate of {host} cannot be trusted ({error.verify_message})", dead=True
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _refused(host, code, text, "alerts.mail_to") from error
        except smtplib.SMTPSenderRefused as error:
            raise _refused(host, error.smtp_code, error.smtp_error, "alerts.mail_from") from error
        except smtplib.SMTPAuthenticationError as error:
            raise _refused(host, error.smtp_code, error.smtp_error, "alerts.smtp_url") from error
        except smtplib.SMTPDataError as error:
            raise DeliveryError(
                f"{host} refuses this mail ({_said(error.smtp_code, error.smtp_error)})",
                unfit=500 <= error.smtp_code < 600,
            ) from error
        except smtplib.SMTPResponseException as error:
            said = _said(error.smtp_code, error.smtp_error)
            raise DeliveryError(f"{host} refuses ({said}); it will be retried") from error
        except (OSError, smtplib.SMTPException, Answered) as error:
            raise DeliveryError(f"{host} cannot be used ({error or 'it hung up'})") from error

    def letter(self, message: Message) -> EmailMessage:
        """Compose the mail. The thread's first message carries the thread's own id (RFC 5322,
        3.6.4)."""
        domain = self._from().rpartition("@")[2]
        root = f"<{_word(message.thread)}@{domain}>"
        made = EmailMessage()
        made["From"] = self._from()
        made["To"] = ", ".join(self.to)
        made["Date"] = format_datetime(message.made_at)
        first = message.kind in ("alert", "test")
        made["Subject"] = message.title
        if first:
            made["Message-ID"] = root
        else:
            at = int(message.made_at.timestamp() * 1_000_000)
            made["Message-ID"] = f"<{_word(message.thread)}.{message.kind}.{at}@{domain}>"
            made["In-Reply-To"] = root
            made["References"] = root
        made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no one's holiday note answers
        made.set_content(message.text + "\n")
        return made

    def _from(self) -> str:
        return self.sender or f"headgate@{_word(_own_name())}"


def _own_name() -> str:
    """The machine's name; nothing is looked up."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "localhost"


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)


def _said(code: int, text: bytes | str) -> str:
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {''.join(c for c in plain if c.isprintable())[:200]}"


def _refused(host: str, code: int, text: bytes | str, setting: str) -> DeliveryError:
    return DeliveryError(
        f"{host} refuses ({_said(code, text)}); see {setting}", dead=500 <= code < 600
    )
