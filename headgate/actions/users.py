"""What administrators do to users and to tokens of programs that scrape."""

from __future__ import annotations

from headgate.actions.errors import ActionRefused
from headgate.host import passwords
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.users import Role
from headgate.spool.spool import Spool


def add(spool: Spool, by: Actor, name: str, role: Role, password: str) -> None:
    """Add a user. UserTrouble as of ``Users.add``."""
    stored = _stored(password, name)
    with spool.site.together():
        spool.site.users.add(name, role, stored, spool.now())
        spool.site.audit.record(by, Action.USER_ADD, spool.now(), name, role)


def remove(spool: Spool, by: Actor, name: str) -> None:
    """Remove a user, and end the user's sessions."""
    with spool.site.together():
        spool.site.users.remove(name)
        spool.site.audit.record(by, Action.USER_REMOVE, spool.now(), name)


def set_role(spool: Spool, by: Actor, name: str, role: Role) -> None:
    """Give a user another role; the user's sessions end."""
    with spool.site.together():
        spool.site.users.change(name, role=role)
        spool.site.audit.record(by, Action.USER_ROLE, spool.now(), name, role)


def set_password(spool: Spool, by: Actor, name: str, password: str) -> None:
    """Set a user's password; the user's sessions end."""
    stored = _stored(password, name)
    with spool.site.together():
        spool.site.users.change(name, password=stored)
        spool.site.audit.record(by, Action.USER_PASSWORD, spool.now(), name)


def add_scrape_token(spool: Spool, by: Actor, name: str) -> str:
    """Make a token for /metrics."""
    with spool.site.together():
        token = spool.site.users.add_scrape_token(name, spool.now())
        spool.site.audit.record(by, Action.TOKEN_ADD, spool.now(), name)
    return token


def remove_scrape_token(spool: Spool, by: Actor, name: str) -> None:
    """Remove a token for /metrics; it opens nothing from then on."""
    with spool.site.together():
        spool.site.users.remove_scrape_token(name)
        spool.site.audit.record(by, Action.TOKEN_REMOVE, spool.now(), name)


def _stored(password: str, name: str) -> str:
    if why := passwords.trouble(password, name):
        raise ActionRefused(why)
    return passwords.hashed(password)
