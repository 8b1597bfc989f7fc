"""``/login`` and ``/logout``. Attempts are counted in the site's database, for all processes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Blueprint, Response, render_template, request

from app.http.request import caller
from app.http.routes import bare_page
from app.people.forms import Forms
from app.people.sessions import Sessions, private
from app.refusals import Refused
from headgate.host import passwords
from headgate.host.logs import get as get_log
from headgate.spool.site.audit import Action, Actor
from headgate.spool.spool import Spool

_HASHES_MAX = 2
"""Passwords that one process checks at once: each takes 32 MiB, and a core for a tenth of a
second."""


def add_log_in(routes: Blueprint, spool: Spool, sessions: Sessions, forms: Forms) -> None:
    """Add the routes ``/login`` and ``/logout``."""
    users, log = spool.site.users, get_log()
    hashing = threading.BoundedSemaphore(_HASHES_MAX)

    def page(trouble: str = "", status: int = 200, *, then: str = "/", name: str = "") -> Response:
        text = render_template(
            "people/login.html",
            settings=spool.settings,
            trouble=trouble,
            no_users=not users.any(),
            next=_local(then),
            name=name[:64],
        )
        return bare_page(text, status)

    @routes.get("/login")
    def login_page() -> Response:
        return page(then=request.args.get("next", ""))

    @routes.post("/login", provide_automatic_options=False)
    def log_in() -> Response:
        asked, form = caller(request.environ), forms.read()
        peer = sessions.address(asked)
        name, password = form.get("name", ""), form.get("password", "")
        again = functools.partial(page, then=form.get("next", ""), name=name)
        try:
            sessions.check_form(asked, form)
        except Refused as refused:
            if refused.refusal.code != "stale_form":
                raise
            return again("The page was open for too long. Try again.", 400)
        keys = (f"address {peer}", f"user {name}")
        if wait := users.attempt(keys, spool.now()):
            return _wait(again, wait, f"Too many attempts. Try again in {wait} s.")
        if not hashing.acquire(blocking=False):
            return _wait(again, 1, "Too many people log in right now. Try again in a second.")
        try:
            user = users.get(name)
            right = passwords.matches(user.password if user else None, password)
        finally:
            hashing.release()
        if user is None or not right or not sessions.begin(user):
            # Of a name that is not a user's nothing is logged: it may be a password.
            log.warning("login.failed", user=user.name if user else "unknown", peer=peer)
            return again("The name or the password is wrong.", 403)
        users.forget_attempts(keys)
        spool.site.audit.record(Actor(user.name, peer), Action.LOG_IN, spool.now())
        log.info("login", user=user.name, peer=peer)
        return _see(_local(form.get("next", "")))

    @routes.post("/logout", provide_automatic_options=False)
    def log_out() -> Response:
        asked = caller(request.environ)
        sessions.check_form(asked, forms.read())
        person = sessions.person(asked)
        sessions.end()
        if person is not None:
            spool.site.audit.record(
                Actor(person.name, sessions.address(asked)), Action.LOG_OUT, spool.now()
            )
        return _see("/login")


def _wait(page: Callable[[str, int], Response], seconds: int, sentence: str) -> Response:
    response = page(sentence, 429)
    response.headers["Retry-After"] = str(seconds)
    return response


def _see(address: str) -> Response:
    return private(Response(status=303, headers={"Location": address}))


def _local(address: str) -> str:
    """A path of this page; "/" for anything that a browser could take for another site."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    plain = address.isascii() and address.isprintable() and "\\" not in address
    if not plain or parts.scheme or parts.netloc or not address.startswith("/"):
        return "/"
    return address if not address.startswith("//") else "/"
