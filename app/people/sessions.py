"""Who is logged in: a signed cookie with the number of a session, which the site's database knows.

The cookie is Flask's (itsdangerous): HttpOnly, SameSite=Lax, and over https Secure and bound to the
host by its name (``__Host-``). It holds what a form has to send along (a token against requests
that another site forges), and when it was last used. Whether its session still lasts, each request
asks the database, so a copy of a cookie is worth nothing after a log-out.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flask import Flask, Response, g, request, session
from flask.sessions import SecureCookieSessionInterface

from app.admission.auth import Caller, Person, refuse_foreign_page
from app.http.request import caller
from app.people.proxy import Proxies
from app.people.session_key import session_key
from app.refusals import Refused
from headgate.settings.settings import Settings
from headgate.spool.site.users import Role, User, Users
from headgate.spool.spool import Spool

FORM_TOKEN = "form_token"
"""The field of every form that changes something."""
_REFRESH_SECONDS = 60
"""How old the time in the cookie may be before it is sent again."""
_AHEAD_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Spans:
    """How long a session lasts without a request, and in all."""

    idle: timedelta
    longest: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Spans:
        auth = settings.auth
        return cls(timedelta(seconds=auth.session_idle), timedelta(seconds=auth.session_max))


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who a page is made for, for templates. ``name`` is empty where no log-in is needed."""

    name: str
    role: Role

    def may(self, needed: str, or_this_machine: bool = False) -> bool:
        """Whether to show what needs this role, as ``Gate.require`` has it."""
        return self.role.may(Role(needed)) or (or_this_machine and not self.name)


class _Cookies(SecureCookieSessionInterface):
    """Flask's, with the name and the attributes that fit the scheme of the request."""

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-headgate" if is_https() else "headgate"

    def get_cookie_secure(self, app: Flask) -> bool:
        return is_https()


def is_https() -> bool:
    """Whether the browser came over https, as far as the proxy in front says. A client that lies
    only gets a cookie that it would not send."""
    return request.is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


class Sessions:
    """Log-in sessions of the people who use the page. Thread-safe."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._users: Users = spool.site.users
        self._proxies = Proxies(spool.settings.auth)
        self.spans = Spans.of(spool.settings)

    def attach(self, app: Flask, state: Path) -> None:
        """Let the application use these sessions."""
        app.secret_key = session_key(state)
        app.session_interface = _Cookies()
        app.permanent_session_lifetime = self.spans.longest
        app.config.update(
            SESSION_COOKIE_HTTPONLY=True,
            SESSION_COOKIE_SAMESITE="Lax",
            SESSION_COOKIE_PATH="/",
            SESSION_REFRESH_EACH_REQUEST=False,
        )
        app.jinja_env.globals.update(
            form_token=self.form_token, viewer=self._viewer, flashed=flashed
        )

    def person(self, asked: Caller) -> Person | None:
        """Who is logged in, asked once a request; None if no one is."""
        if "person" not in g:
            named = self._proxies.person(asked.peer, request.headers)
            g.person = named or self._by_cookie()
        found: Person | None = g.person
        return found

    def address(self, asked: Caller) -> str:
        """Where this request comes from, for the audit log and the bound on attempts."""
        return self._proxies.client(asked.peer, request.headers)

    def _by_cookie(self) -> Person | None:
        number, used = session.get("number"), session.get("used")
        if not isinstance(number, str) or not isinstance(used, int):
            return None
        now = self._spool.now()
        seconds = int(now.timestamp())
        if not -_AHEAD_SECONDS <= seconds - used <= self.spans.idle.total_seconds():
            return None
        user = self._users.of_session(number, now, self.spans.longest)
        if user is None:
            return None
        if seconds - used >= _REFRESH_SECONDS:
            session["used"] = seconds
        return Person(user.name, user.role)

    def _viewer(self) -> Viewer:
        person = self.person(caller(request.environ))
        return Viewer("", Role.VIEWER) if person is None else Viewer(person.name, person.role)

    def begin(self, user: User) -> bool:
        """Log this user in, in a session of its own: nothing of the cookie before is kept. False if
        the user was changed meanwhile."""
        now = self._spool.now()
        number = self._users.begin_session(user, now, self.spans.longest)
        if number is None:
            return False
        self.end()
        session["number"] = number
        session["used"] = int(now.timestamp())
        session["form"] = secrets.token_urlsafe(32)
        session.permanent = True
        return True

    def end(self) -> None:
        """Log out the person of this cookie."""
        number = session.get("number")
        if isinstance(number, str):
            self._users.end_session(number)
        session.clear()
        g.pop("person", None)

    def form_token(self) -> str:
        """What each form of this browser's pages sends along, for templates."""
        token = session.get("form")
        if not isinstance(token, str):
            token = session["form"] = secrets.token_urlsafe(32)
        return token

    def check_form(self, asked: Caller, form: Mapping[str, str]) -> None:
        """Refused unless the form that came is one that this browser got from this page."""
        refuse_foreign_page(asked)
        shown, token = form.get(FORM_TOKEN, ""), session.get("form")
        if not isinstance(token, str) or not hmac.compare_digest(shown.encode(), token.encode()):
            raise Refused("stale_form")


def flash(sentence: str, *, trouble: bool = False) -> None:
    """Show this on the next page that the browser asks for."""
    session["said"] = [sentence[:1000], trouble]


def flashed() -> tuple[str, bool] | None:
    """What ``flash`` left, once."""
    said = session.pop("said", None) if "said" in session else None
    return None if said is None else (str(said[0]), bool(said[1]))


def private(response: Response) -> Response:
    """Forbid every cache to keep this response."""
    response.headers["Cache-Control"] = "no-store"
    return response
