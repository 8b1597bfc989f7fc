"""What a connection's failure means for the run, as a sentence; no I/O of its own."""

from __future__ import annotations

import http.client
import socket
import ssl

from uploader.s3.errors import ErrorKind, SendError
from uploader.wire.connection import TooMuch


def unreached(error: OSError, host: str, port: int) -> SendError:
    """No connection could be made, so nothing was asked."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SendError(
            ErrorKind.FATAL,
            "certificate",
            f"The certificate of {host} cannot be trusted ({error.verify_message}); correct "
            "s3.endpoint_url, or name the authority's file in s3.ca_bundle.",
        )
    if isinstance(error, ssl.SSLError):
        return SendError(
            ErrorKind.UPLINK_DOWN,
            "tls",
            f"{host}:{port} does not speak TLS as expected ({error.args[-1]}).",
        )
    if isinstance(error, socket.gaierror):
        return SendError(
            ErrorKind.UPLINK_DOWN,
            "name-lookup",
            f"The name {host} cannot be looked up ({error.strerror}); see whether the network "
            "and its DNS work.",
        )
    return SendError(
        ErrorKind.UPLINK_DOWN,
        "no-connection",
        f"No connection to {host}:{port} ({error.strerror or error}); see whether "
        "the network works.",
    )


def lost(error: Exception, host: str, *, unknown: bool) -> SendError:
    """A connection failed in the middle; ``unknown``: the whole request had been written."""
    if isinstance(error, TimeoutError):
        what = "did not answer in time" if unknown else "took nothing more"
        message = f"{host} {what}; it is tried again later."
        return SendError(ErrorKind.UPLINK_DOWN, "timeout", message, unknown=unknown)
    if isinstance(error, TooMuch):
        return SendError(
            ErrorKind.TRANSIENT,
            "endless-answer",
            f"The answer of {host} has no end: {error.strerror}. It is no S3 server, or something "
            "stands before it; it is tried again later.",
            unknown=unknown,
        )
    if isinstance(error, OSError | http.client.RemoteDisconnected):
        return SendError(
            ErrorKind.TRANSIENT,
            "connection-lost",
            f"The connection to {host} was lost before an answer came; it is tried again.",
            unknown=unknown,
            passing=True,
        )
    return SendError(
        ErrorKind.TRANSIENT,
        "no-http",
        f"{host} gave half an answer, or one that is not HTTP; it is tried again later.",
        unknown=unknown,
    )
