"""Who sends: the device of the token, or a sender who needs none. Pure.

``Authorization: Bearer`` (RFC 6750), or ``Basic`` (RFC 7617) with the device's name and its token
as the password, for cameras that know nothing else; ``app.admission.digest`` for those that know
not even that.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from app.refusals import Refused
from headgate.spool.image import names
from headgate.spool.site.devices import Credential
from headgate.spool.site.users import Role

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:\d{1,5})?", re.ASCII)
_HOW = "headgate device add creates one; receiver.auth says who needs none."


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from, as its connection and its headers say. ``origin`` and
    ``fetch_site`` are what browsers add; None where there is none."""

    peer: str = ""  # an IP address
    authorization: str = ""
    host: str = ""
    origin: str | None = None
    fetch_site: str | None = None
    forwarded: bool = False  # a proxy passed it on, so the peer's address says nothing
    method: str = ""
    path: str = ""
    url_token: str = ""  # ``?token=`` in the address; counts only where a setting allows it


@dataclass(frozen=True, slots=True)
class Person:
    """A person who has logged in, or whom a trusted proxy names."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Principal:
    """Who may send, or see. ``device`` "" for a sender without a token, which may use any name;
    ``role`` is a person's, or that of this machine itself while it needs no log-in."""

    device: str = ""
    urgent: bool = False
    may_drain: bool = False
    may_forward: bool = False  # another gateway, which says whose picture it has
    is_local: bool = False  # a program that shares the spool and says itself whose picture it has
    user: str = ""
    role: Role | None = None

    @property
    def sees_only(self) -> str:
        """The device whose images alone are for this one; "" for all: someone who needs no token,
        or whose token has a right to the site (headgate device add NAME --drain)."""
        return "" if self.may_drain or self.may_forward else self.device

    def sends_for(self, named: str) -> str:
        """The device of an image that names this one."""
        return named if named and (self.may_forward or not self.device) else self.device


@dataclass(frozen=True, slots=True)
class PresentedCredentials:
    """What a request presented: a token, and with Basic the name that goes with it."""

    token: str
    name: str = ""


def presented(authorization: str) -> PresentedCredentials | None:
    """What an Authorization header presents; None if there is none. Refused if it is no use."""
    scheme, _, rest = authorization.strip().partition(" ")
    if not scheme:
        return None
    if scheme.lower() == "bearer" and rest.strip():
        return PresentedCredentials(rest.strip())
    if scheme.lower() == "basic":
        try:
            name, found, token = (
                base64.b64decode(rest.strip(), validate=True).decode().partition(":")
            )
        except (binascii.Error, UnicodeDecodeError):
            found = ""
        if found:
            return PresentedCredentials(token, name)
    raise Refused("unauthorized", reason="The Authorization header is invalid.")


def is_local(caller: Caller, key: str) -> bool:
    """Whether the key came along that is in the spool itself (``headgate.intake.hand_over``), and
    no proxy passed it on."""
    scheme, _, shown = caller.authorization.partition(" ")
    is_key = hmac.compare_digest(shown.encode(errors="replace"), key.encode())
    return bool(key) and scheme.lower() == "bearer" and is_key and not caller.forwarded


def is_direct_loopback(caller: Caller) -> bool:
    """Whether the request came from this machine itself, and through no proxy."""
    return _address(caller.peer).is_loopback and not caller.forwarded


def refuse_foreign_page(caller: Caller) -> None:
    """Refused if a browser says that a page of another site sends this; cameras say nothing."""
    foreign = (
        caller.fetch_site not in ("same-origin", "none")
        if caller.fetch_site is not None
        else (caller.origin is not None and caller.origin.partition("://")[2] != caller.host)
    )
    if foreign:
        raise Refused("forbidden", reason="The request comes from another site's page.")


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Whether a request for this Host header can only be meant for this machine: an IP address, a
    loopback name, one of ``names`` (in lower case), or none at all.

    By any other name a page may be of the same origin as this receiver, as far as the browser that
    shows it can tell: the owner of the name made it resolve to here (DNS rebinding). A page cannot
    make an address lead elsewhere.
    """
    if not host:
        return True  # HTTP/1.0: no browser
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found["name"].strip("[]").rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in names
    return True


def refuse_foreign_host(caller: Caller, sender: Principal, names: Collection[str]) -> None:
    """Refused if a request without a token uses a host name that is not this machine's. For what
    people look at: a camera may call the receiver what it likes.

    Neither Origin nor Sec-Fetch-Site tells of it: the request is of the same origin, and for a
    plain http:// name browsers leave Sec-Fetch-Site out (Fetch Metadata, "potentially
    trustworthy").
    """
    if not sender.device and not is_own_host(caller.host, names):
        raise Refused(
            "forbidden",
            reason="Without a token this is shown under an IP address or a name of this machine "
            "only; if it has another name, add that to receiver.hosts.",
        )


def may_command(caller: Caller, sender: Principal, names: Collection[str] = ()) -> None:
    """Refused unless this may change something: a valid token, or this machine itself; and never
    a page of another site that a browser here happens to show.

    Browsers say where a POST comes from (Sec-Fetch-Site, Origin). A page whose name was made to
    lead to this machine (DNS rebinding) is of the same origin; so without a token it has to be
    asked for by an address or as localhost.
    """
    refuse_foreign_page(caller)
    if sender.device:
        return
    if not is_direct_loopback(caller) or not is_own_host(caller.host, names):
        raise Refused("forbidden", reason="This needs a token, or a request from this machine.")


def identify(
    caller: Caller,
    auth: str,
    allow: tuple[str, ...],
    known: Callable[[str], Credential | None],
    *,
    by_digest: Callable[[Caller], Credential | None] = lambda _: None,
    names: Collection[str] = (),
    url_tokens: bool = False,
    on_network: bool = False,
    enrolled: Callable[[], bool] = lambda: False,
) -> Principal:
    """Who sent this request; Refused if the sender has no permission.

    A valid token counts under every ``auth``. One that is not valid is refused, except where
    none is needed ("open"): there it is ignored, because cameras send logins that were not asked
    for. ``known`` gives the credential of a token, ``by_digest`` that of a Digest login (None:
    there was none); ``url_tokens`` lets a token stand in the address; ``names`` are those of this
    machine.
    "auto" lets this machine itself send without one, as long as nothing hints at others: the
    receiver listens to the network (``on_network``), a device has a token (``enrolled``), or a
    proxy left its mark.
    """
    try:
        credential = by_digest(caller) or _by_token(caller, known, url_tokens=url_tokens)
    except Refused as refused:
        if auth != "open" or refused.refusal.code != "unauthorized":
            raise
        credential = None
    if credential is not None:
        return Principal(
            credential.device, credential.urgent, credential.may_drain, credential.may_forward
        )
    if caller.url_token and not url_tokens and auth != "open":
        raise Refused(
            "unauthorized",
            reason="A token in the URL needs receiver.token_in_url = true.",
        )
    peer = _address(caller.peer)
    if auth == "open":
        if allow and not any(peer in ipaddress.ip_network(network) for network in allow):
            raise Refused("forbidden", reason=f"{peer} is not in any network of receiver.allow.")
    elif auth == "token":
        raise Refused("unauthorized", reason=f"Every device needs a token: {_HOW}")
    elif caller.forwarded:
        raise Refused(
            "unauthorized", reason=f"The request came through a proxy, so it needs a token: {_HOW}"
        )
    elif not peer.is_loopback:
        raise Refused("unauthorized", reason=f"{peer} is another machine and needs a token: {_HOW}")
    elif on_network:
        raise Refused(
            "unauthorized",
            reason=f"The receiver listens to the network, so every request needs a token: {_HOW}",
        )
    elif not is_own_host(caller.host, names):
        raise Refused(
            "forbidden",
            reason="Without a token, use the host name localhost or 127.0.0.1 to reach this "
            "machine; if it has another name, add that to receiver.hosts.",
        )
    elif enrolled():
        raise Refused(
            "unauthorized",
            reason=f"Devices have tokens, so every request needs one: {_HOW}",
        )
    return Principal()


def _by_token(
    caller: Caller, known: Callable[[str], Credential | None], *, url_tokens: bool
) -> Credential | None:
    """Whose token came along; None if none did."""
    shown = presented(caller.authorization)
    if shown is None and url_tokens and caller.url_token:
        shown = PresentedCredentials(caller.url_token)
    if shown is None:
        return None
    credential = known(shown.token)
    if credential is None:
        raise Refused("unauthorized", reason="This token is invalid or was revoked.")
    if shown.name and names.device_name(shown.name) != credential.device:
        raise Refused("wrong_device", device=credential.device, named=shown.name[:64])
    return credential


@functools.lru_cache(maxsize=4096)
def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        raise Refused("forbidden", reason="The sender's address is unknown.") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
