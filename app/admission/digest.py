"""HTTP Digest (RFC 7616), for cameras that know no other login. Pure.

Only devices that were enrolled for it (``headgate device add --digest``) have the stored secret
that it needs. MD5 is offered, too, because many cameras know nothing else. A nonce is a time and a
keyed hash of it, so it needs no memory: it is valid in each process and after a restart. It belongs
to one address. Within its lifetime a listener at that address could send a header again, for the
same method and address: Digest does not cover the body, and only TLS keeps others out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from werkzeug.datastructures import Authorization, WWWAuthenticate

from app.admission.auth import Caller
from app.refusals import Refused
from headgate.spool.site.devices import DIGEST_REALM, Credential, DigestLogin

NONCE_SECONDS = 300
"""How long a nonce is valid; a client whose nonce is older gets a new one, and need not ask its
user (``stale``)."""

_HASHES: Mapping[str, Callable[[bytes], str]] = {
    "MD5": lambda text: hashlib.md5(text, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda text: hashlib.sha256(text).hexdigest(),
}
"""MD5 first, which the RFC would have last: cameras with an old libcurl read the first challenge
alone, and give up if its hash is another. No attack on MD5 finds a random token of 128 bits."""


def is_one(caller: Caller) -> bool:
    """Whether the request logs in by Digest."""
    return caller.authorization.partition(" ")[0].lower() == "digest"


def nonce(key: str, peer: str, seconds: int) -> str:
    """A nonce for this address at this time, in seconds since 1970."""
    mark = hmac.digest(key.encode(), f"{seconds} {peer}".encode(), "sha256").hex()[:32]
    return f"{seconds:x}-{mark}"


def challenges(key: str, peer: str, seconds: int, *, stale: bool) -> tuple[str, ...]:
    """What WWW-Authenticate says, a header for each algorithm."""
    said = {"realm": DIGEST_REALM, "qop": "auth", "nonce": nonce(key, peer, seconds)}
    if stale:
        said["stale"] = "true"
    return tuple(
        WWWAuthenticate("digest", {**said, "algorithm": name}).to_header() for name in _HASHES
    )


def check(
    caller: Caller, logins: Callable[[str], list[DigestLogin]], key: str, seconds: int
) -> Credential:
    """Who answered a challenge; Refused if the answer is wrong, or its nonce too old. ``logins``
    are those of a device."""
    found = Authorization.from_header(caller.authorization)
    said = {name: value or "" for name, value in (found.parameters if found else {}).items()}
    known = logins(said.get("username", ""))
    if not known:
        refused = Refused(
            "unauthorized",
            reason="This device was not enrolled for Digest: use Basic, with the token as the "
            "password, or enrol it with headgate device add --digest.",
        )
        refused.challenges = ()
        raise refused
    login = next((one for one in known if is_right(said, caller.method, one)), None)
    if login is None or not _is_here(said.get("uri", ""), caller.path):
        raise Refused("unauthorized", reason="The Digest login is invalid.")
    age = _age(said.get("nonce", ""), key, caller.peer, seconds)
    if age is None or abs(age) > NONCE_SECONDS:
        raise Refused("unauthorized", reason="The nonce has expired: use the new one.", stale=True)
    return login.credential


def is_right(said: Mapping[str, str], method: str, login: DigestLogin) -> bool:
    """The response is the one that the device's secret makes (RFC 7616, 3.4.1; without qop as in
    RFC 2069, which old cameras speak)."""
    algorithm, session, _ = (said.get("algorithm") or "MD5").upper().partition("-SESS")
    digest = _HASHES.get(algorithm)
    if digest is None or said.get("qop", "auth") not in ("auth", ""):
        return False
    secret = login.sha256 if algorithm == "SHA-256" else login.md5
    if session:
        secret = digest(f"{secret}:{said.get('nonce', '')}:{said.get('cnonce', '')}".encode())
    asked = digest(f"{method}:{said.get('uri', '')}".encode())
    between = [said.get("nonce", "")]
    if said.get("qop"):
        between += [said.get("nc", ""), said.get("cnonce", ""), said["qop"]]
    expected = digest(":".join((secret, *between, asked)).encode())
    return hmac.compare_digest(expected.encode(), said.get("response", "").lower().encode())


def _is_here(uri: str, path: str) -> bool:
    """Whether the address that was signed is this one; a proxy may have taken off its beginning."""
    return unquote(urlsplit(uri).path, "latin-1").endswith(path)


def _age(shown: str, key: str, peer: str, seconds: int) -> int | None:
    """Seconds since a nonce of ours was made for this address; None if it is none."""
    try:
        made = int(shown.partition("-")[0], 16)
    except ValueError:
        return None
    is_ours = hmac.compare_digest(nonce(key, peer, made).encode(), shown.encode())
    return seconds - made if is_ours else None
