"""The receiver: whether it answers, for how many, and to whom. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headgate.settings.units import counted
from uploader.cli.doctor.findings import Finding, loses, ok, warning


@dataclass(frozen=True, slots=True)
class Receiver:
    """What the receiver, its process and its settings say."""

    bind: str
    answers: bool  # /healthz, with our answer
    ready: bool  # /readyz
    not_ready: str  # why not
    port_taken: bool  # someone listens there, and it is not the receiver
    threads: int
    open_files: int | None  # its limit; None if it is not seen
    on_network: bool  # it listens to more than this machine
    auth: str
    allow: Sequence[str]
    tokens: int  # enrolled devices with a valid one
    unconfined: str  # why a decoder cannot be confined here; "" if it can
    behind_proxy: bool = False  # requests came through one, and needed no token


def judge(seen: Receiver) -> Iterator[Finding]:
    """Judge the receiver: without one no image arrives, and anyone who may send can fill the
    disk."""
    port = seen.bind.rpartition(":")[2]
    if seen.answers and seen.ready:
        yield ok("receiver", f"it answers at {seen.bind} and accepts images")
    elif seen.answers:
        yield loses("receiver", f"it accepts no image now: {seen.not_ready}", "headgate status")
    elif seen.port_taken:
        yield loses(
            "receiver",
            f"another program listens on port {port}, and the receiver does not",
            f"ss -ltnp 'sport = :{port}' shows which; stop it, or choose another receiver.bind",
        )
    else:
        yield loses(
            "receiver",
            f"nothing answers at {seen.bind}: no image can be received",
            "systemctl restart headgate-receiver; journalctl -u headgate-receiver -n 20",
        )
    wanted = max(1024, seen.threads * 4) * 2
    if seen.open_files is not None and seen.open_files < wanted:
        yield warning(
            "descriptors",
            f"it may have {counted(seen.open_files, 'file')} open, and needs {wanted:,} for "
            f"{counted(seen.threads, 'thread')}: some cameras would be disconnected",
            "systemctl edit headgate-receiver: [Service] LimitNOFILE=65536",
        )
    elif seen.open_files is not None:
        yield ok("descriptors", f"it may have {counted(seen.open_files, 'file')} open")
    yield from _who_may_send(seen)
    if seen.unconfined:
        yield warning(
            "thumbnails",
            f"the page shows no thumbnails: their decoder cannot be confined, because "
            f"{seen.unconfined}",
            "a kernel from 5.13 on that has landlock in /sys/kernel/security/lsm, on x86_64 or "
            "aarch64; nothing else needs it",
        )
    else:
        yield ok("thumbnails", "the thumbnail decoder is confined")


def _who_may_send(seen: Receiver) -> Iterator[Finding]:
    if seen.auth == "open" and seen.behind_proxy:
        yield warning(
            "network",
            'auth is "open", and requests come through a proxy on this machine: anyone whom it '
            "lets through may send without a token, whatever receiver.allow says",
            'headgate device add cam-01, and auth = "token"',
        )
    elif not seen.on_network and seen.auth == "open":
        yield ok(
            "network",
            f'it listens to this machine only ({seen.bind}); auth is "open", so a proxy on it '
            "would decide who may send",
        )
    elif not seen.on_network:
        yield ok("network", f"it listens to this machine only ({seen.bind})")
    elif seen.auth == "open" and not seen.allow:
        yield warning(
            "network",
            'auth is "open" and allow names no network: anyone who can reach it can fill the disk',
            'headgate device add cam-01, and auth = "token"; or allow = ["192.168.10.0/24"]',
        )
    elif seen.auth == "open":
        yield warning(
            "network",
            f"anyone in {', '.join(seen.allow)} may send without a token",
            'headgate device add cam-01, and auth = "token"',
        )
    elif not seen.tokens:
        yield warning(
            "network",
            "no device has a token, so no other machine can send",
            "headgate device add cam-01",
        )
    else:
        yield ok(
            "network",
            f"{counted(seen.tokens, 'device', ('has', 'have'))} a token, and others cannot send",
        )
