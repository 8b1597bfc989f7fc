"""Identity tokens (OpenID Connect Core 1.0, section 2) of a scheduler that asks for drains.

Google's Cloud Scheduler sends one as ``Authorization: Bearer`` (its documentation, "Use
authentication with HTTP targets"). What counts: signed with RS256 by a key of the issuer's, of this
issuer, for our audience, not expired, and of the one service account that the settings name; an
audience alone says nothing, because anyone may ask the issuer for a token with any audience.

The keys come from a file, or from what ``headgate watch`` fetched: the receiver itself opens no
connections.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.refusals import Refused
from headgate.spool.site.jobs import OIDC_KEYS, WANT_KEYS

if TYPE_CHECKING:
    from headgate.spool.spool import Spool

LEEWAY_SECONDS = 60
"""How far the two clocks may differ."""
LIFE_MOST_SECONDS = 3600
"""Longest lifetime of an identity token; Google's are valid for an hour."""


def looks_like_one(token: str) -> bool:
    """Whether this is a JSON web token, and none of our own."""
    return token.count(".") == 2 and not token.startswith("hg_")


def check(spool: Spool, token: str) -> str:
    """Whose valid identity token this is; Refused if it is not, saying why."""
    settings = spool.settings
    if not settings.jobs.oidc_audience:
        raise _refused("identity tokens are not accepted: jobs.oidc_audience is not set")
    try:
        import jwt
    except ImportError:
        raise _refused("checking it needs the extra: pip install 'headgate[queue]'") from None
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(
            token,
            _key(spool, str(header.get("kid", ""))),
            algorithms=["RS256"],
            audience=settings.jobs.oidc_audience,
            issuer=settings.jobs.oidc_issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud"]},
        )
    except jwt.PyJWTError as error:
        raise _refused(f"the identity token is not valid: {error}") from None
    lasts = int(claims["exp"]) - int(claims["iat"])
    age = time.time() - int(claims["iat"])
    if lasts > LIFE_MOST_SECONDS or age > LIFE_MOST_SECONDS + LEEWAY_SECONDS:
        raise _refused(
            "the identity token is valid for longer than an hour; request a new one each time"
        )
    email = str(claims.get("email", ""))
    if email != settings.jobs.oidc_email or claims.get("email_verified") is not True:
        raise Refused("may_not_drain", reason="The identity token belongs to another account.")
    return email


def _key(spool: Spool, wanted: str) -> Any:
    """The issuer's key of this name."""
    import jwt

    for document in _documents(spool):
        if document.get("kid", "") == wanted and document.get("kty") == "RSA":
            return jwt.PyJWK(dict(document), algorithm="RS256")
    if _is_file(spool):
        raise _refused("its key is not in jobs.oidc_keys")
    if spool.site.get(OIDC_KEYS) is None:
        raise _refused("the issuer's keys have not been fetched yet; headgate watch fetches them")
    spool.site.add_request(WANT_KEYS, "", spool.now())
    raise _refused("its key is not one of the issuer's; headgate watch fetches new ones")


def _is_file(spool: Spool) -> bool:
    return "://" not in spool.settings.jobs.oidc_keys


def _documents(spool: Spool) -> Sequence[Mapping[str, Any]]:
    try:
        if _is_file(spool):
            path = Path(spool.settings.jobs.oidc_keys)
            known = json.loads(path.read_text(encoding="utf-8"))
        else:
            known = spool.site.get(OIDC_KEYS) or {"keys": []}
        return [dict(one) for one in known["keys"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise _refused("jobs.oidc_keys does not contain a readable JWK set") from None


def _refused(reason: str) -> Refused:
    return Refused("unauthorized", reason=f"{reason[:1].upper()}{reason[1:]}.")
