"""The public keys of the issuer of identity tokens, fetched for the receiver, which opens no
connections itself.

They are a JWK set (RFC 7517, section 5). Issuers change their keys every few days and show new ones
long before they use them, so a set is good for some hours; a token that was signed by a key that is
not in it makes the next look fetch them at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from headgate.host import logs
from headgate.host.foreign_json import read_json
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.site.jobs import OIDC_KEYS, WANT_KEYS
from headgate.spool.spool import Spool
from uploader.wire import one_shot
from uploader.wire.errors import SendError
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_GOOD_FOR = timedelta(hours=6)
_NOT_SOONER = timedelta(minutes=5)
"""Tokens with invented keys must not make us fetch all the time."""
_MOST_BYTES = 64 * 1024
_LOCK_SECONDS = 2.0


def refresh(spool: Spool) -> bool:
    """Fetch them if they are missing, old or asked for; whether that was done. What cannot be
    reached now is tried at the next look, and the old ones stay good."""
    settings, site = spool.settings, spool.site
    url = settings.jobs.oidc_keys
    if not settings.jobs.oidc_audience or "://" not in url:
        return False
    wanted = [request for request in site.requests() if request.word == WANT_KEYS]
    known = site.get(OIDC_KEYS)
    if known is not None and known.get("from") == url:
        age = abs(spool.now() - datetime.fromisoformat(known["at"]))
        if age < (_NOT_SOONER if wanted else _GOOD_FOR):
            return False
    try:
        with other_traffic_pacer(spool.uplink, "headgate watch (keys)", _LOCK_SECONDS) as pacer:
            answer = one_shot.ask("GET", url, pacer, patience=one_shot.HASTE)
        if answer.status != 200 or len(answer.body) > _MOST_BYTES:
            raise ValueError(f"it says {answer.status}")
        keys = [dict(key) for key in read_json(answer.body)["keys"]]
    except (SendError, LockHeld, Closed, DiskError, OSError) as error:
        logs.get().info("keys.wait", why=str(error))
        return False
    except (ValueError, KeyError, TypeError) as error:
        logs.get().warning("keys.unusable", url=url, why=f"no JWK set: {error}")
        return False
    site.put(OIDC_KEYS, {"at": spool.now().isoformat(), "from": url, "keys": keys})
    for request in wanted:
        site.complete_request(request)
    return True
