"""One camera's session: its log-in, and each upload handed to the receiver before it is answered.

An upload counts once its data connection ended cleanly, and 226 leaves only when the receiver holds
the picture.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable
from typing import Any

from pyftpdlib.authorizers import AuthenticationFailed, DummyAuthorizer
from pyftpdlib.exceptions import _RetryError
from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler

from app.ftp.arrivals import Arrivals, Upload
from app.refusals import Refused
from headgate.host.logs import get as get_log
from headgate.intake.hand_over import HandedOver, LocalReceiver, Outcome, Sent

SECONDS = 120
"""After so long without a command, or without a byte of an upload, a session ends."""
TEST_FILE_MAX = 4096
"""Bytes of a file that is no picture and may be a camera's test of its settings: it is answered as
taken, and not kept."""
_NO_PICTURE = frozenset({"unsupported_image", "empty_image"})
_MAY = frozenset("elwdfmT")
"""The library's letters: change folder, list, store, delete, rename, make a folder, set a time."""
_REPLY_MAX = 400
_quiet = logging.getLogger("pyftpdlib").debug


class Logins(DummyAuthorizer):  # type: ignore[misc]
    """The library asks here; ``login`` knows."""

    def __init__(self, login: Callable[[str, str, str], str]) -> None:
        super().__init__()
        self._login = login

    def validate_authentication(self, username: str, password: str, handler: Any) -> None:
        try:
            handler.device = self._login(handler.remote_ip, username, password)
        except Refused as refused:
            get_log().info("ftp.refused", peer=handler.remote_ip, reason=refused.sentence)
            raise AuthenticationFailed(_one_line(refused.sentence)) from None

    def get_home_dir(self, _username: str) -> str:
        return "/"

    def has_perm(self, _username: str, perm: str, _path: str | None = None) -> bool:
        return perm in _MAY

    def get_perms(self, _username: str) -> str:
        return "".join(_MAY)

    def get_msg_login(self, _username: str) -> str:
        return "Send pictures with STOR."

    def get_msg_quit(self, _username: str) -> str:
        return "Goodbye."


class _TakesUploads:
    """What a plain and a secure data connection have in common."""

    def enable_receiving(self, _type: str, cmd: str) -> None:
        """Always binary: a camera that forgets TYPE I means no text."""
        super().enable_receiving("i", cmd)  # type: ignore[misc]

    def close(self: Any) -> None:
        """Every way in which an upload ends leads here; 226 leaves only for one that is held."""
        if not self._closed and self.receive and self.transfer_finished and self.file_obj:
            self._resp = (self.cmd_channel.reply_to(self.file_obj), _quiet)
        super().close()  # type: ignore[misc]

    def handle_error(self: Any) -> None:
        if self.file_obj is not None and self.file_obj.is_too_large:
            self.abort("552 The picture is larger than receiver.max_image.")
        else:
            super().handle_error()  # type: ignore[misc]

    def abort(self: Any, reply: str) -> None:
        """End the upload; nothing of it is kept."""
        self.receive = False
        self._resp = (reply, _quiet)
        self.close()


class Data(_TakesUploads, DTPHandler):  # type: ignore[misc]
    """A data connection without TLS."""

    _ended = False

    def recv(self, buffer_size: int) -> bytes:
        """The library takes a broken connection for the end of a file."""
        try:
            piece: bytes = self.socket.recv(buffer_size)
        except (BlockingIOError, InterruptedError):
            raise _RetryError from None
        except OSError:
            self.abort("426 The data connection broke: send the picture again.")
            return b""
        if not piece:
            self._ended = True
            self.handle_close()
        return piece

    def handle_close(self) -> None:
        """The loop calls this for an error, too."""
        if self.receive and not self._ended:
            self.abort("426 The data connection broke: send the picture again.")
        else:
            super().handle_close()


class SecureData(_TakesUploads, TLS_DTPHandler):  # type: ignore[misc]
    """A data connection over TLS."""


class _TakesPictures:
    """What plain and secure sessions have in common. The class attributes are the server's."""

    receiver: LocalReceiver
    abstracted_fs = Arrivals
    banner = "headgate ready."
    timeout = SECONDS
    device: str
    remote_ip: str
    fs: Arrivals

    def reply_to(self, upload: Upload) -> str:
        """Hand an upload to the receiver; the reply that the camera gets."""
        path = upload.name
        folder, name = posixpath.split(path)
        tags = {"folder": folder.strip("/")[:128]} if folder.strip("/") else {}
        sent = Sent(device=self.device, file_name=name, tags=tags)
        found = self.receiver.hand_over(upload.flushed(), sent)
        get_log().info(
            "ftp.upload",
            device=self.device,
            size=upload.size,
            outcome=found.outcome.value,
            reason=found.sentence,
        )
        reply = _reply(found, upload.size)
        if reply.startswith("226"):
            self.fs.remember(path, upload.size)
        return reply


def _reply(found: HandedOver, size: int) -> str:
    """RFC 959, 5.4: 226 for what is durable; 4yz if it may be sent again later, 5yz if not."""
    if found.is_here:
        return "226 The picture is stored."
    if found.outcome is Outcome.LATER:
        return f"451 {_one_line(found.sentence)}"
    if found.code in _NO_PICTURE and size <= TEST_FILE_MAX:
        return "226 This is no picture, and was not kept."
    return f"550 {_one_line(found.sentence)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REPLY_MAX]


class Session(_TakesPictures, FTPHandler):  # type: ignore[misc]
    """An FTP session without TLS."""

    dtp_handler = Data


class SecureSession(_TakesPictures, TLS_FTPHandler):  # type: ignore[misc]
    """FTP that may become TLS (RFC 4217)."""

    dtp_handler = SecureData
