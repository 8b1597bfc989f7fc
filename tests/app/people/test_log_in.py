"""People log in: against a receiver of two processes, over real sockets."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import create_app
from app.people.session_key import session_key
from headgate.host import passwords
from headgate.spool.site.users import ATTEMPTS, Role
from tests.support.people import PASSWORD, Visitor, add_user, code_of
from tests.support.receiver import Receiver, await_processes, running, site
from tests.support.spooling import Clock, open_spool

_WEEK = timedelta(days=7)
TRUSTED = {"auth__proxy_user_header": "X-Remote-User", "auth__proxy_role_header": "X-Groups",
           "auth__proxy_addresses": "192.0.2.0/24"}  # fmt: skip


def everywhere(visitor: Visitor, path: str = "/status.json") -> set[int]:
    """The status of so many requests that both processes answered some: each is a connection of
    its own, and the kernel spreads them."""
    return {visitor.get(path).status for _ in range(12)}


def test_the_page_asks_for_a_log_in_and_comes_back(desk: Receiver) -> None:
    visitor = Visitor(desk)
    asked = visitor.get("/?still=1")
    assert (asked.status, asked.headers["location"]) == (303, "/login?next=/%3Fstill%3D1")
    assert visitor.get("/status.json", Accept="application/json").code == "login_required"
    page = visitor.get("/login?next=/%3Fstill%3D1")
    assert page.status == 200 and b'value="/?still=1"' in page.body
    assert "form-action 'self'" in page.headers["content-security-policy"]
    answer = visitor.send("/login", name="vera", password=PASSWORD, next="/?still=1")
    assert (answer.status, answer.headers["location"]) == (303, "/?still=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie
    assert "Secure" not in cookie and cookie.startswith("headgate=")
    assert everywhere(visitor) == {200}
    assert b"vera" in visitor.get("/").body
    for elsewhere in (
        "//evil.example",
        "///evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:x",
    ):
        assert Visitor(desk).log_in("vera", then=elsewhere).headers["location"] == "/"


def test_over_https_the_cookie_is_bound_to_it(desk: Receiver) -> None:
    visitor = Visitor(desk, X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.9")
    cookie = visitor.log_in("vera").headers["set-cookie"]
    assert cookie.startswith("__Host-headgate=") and "Secure" in cookie
    assert everywhere(visitor) == {200}
    # The same cookie under its other name is none.
    plain = Visitor(desk)
    plain.cookies = {"headgate": visitor.cookies["__Host-headgate"][:-1]}
    assert everywhere(plain) == {303}


def test_a_copy_of_the_cookie_is_worth_nothing_after_log_out(desk: Receiver) -> None:
    visitor, other = Visitor(desk), Visitor(desk)
    visitor.log_in("vera")
    other.log_in("vera")
    visitor.get("/")
    thief = visitor.copy()
    assert everywhere(thief) == {200}
    assert visitor.send("/logout").status == 303
    assert everywhere(thief) == {303} and everywhere(visitor) == {303}
    assert everywhere(other) == {200}  # another log-in of the same person goes on


@pytest.mark.parametrize("change", ["password", "role", "removal"])
def test_a_change_of_the_user_ends_the_sessions_at_once(desk: Receiver, change: str) -> None:
    add_user(desk, f"to-{change}", Role.ADMIN)
    visitor = Visitor(desk)
    visitor.log_in(f"to-{change}")
    assert everywhere(visitor) == {200}
    with site(desk) as opened:
        if change == "password":
            opened.users.change(f"to-{change}", password=passwords.hashed("another password yet"))
        elif change == "role":
            opened.users.change(f"to-{change}", role=Role.VIEWER)
        else:
            opened.users.remove(f"to-{change}")
            opened.users.add(f"to-{change}", Role.ADMIN, "x", datetime.now(UTC))
    assert everywhere(visitor) == {303}


def test_a_log_in_cannot_outrun_a_new_password(desk: Receiver) -> None:
    """The password was checked, and is replaced before the session begins."""
    add_user(desk, "slow", Role.ADMIN)
    with site(desk) as opened:
        user = opened.users.get("slow")
        assert user is not None
        opened.users.change("slow", password=passwords.hashed("another password yet"))
        assert opened.users.begin_session(user, datetime.now(UTC), _WEEK) is None


def test_a_session_that_was_given_before_the_log_in_is_not_the_one_after(desk: Receiver) -> None:
    """Session fixation: the attacker knows the cookie that the victim begins with."""
    victim = Visitor(desk)
    victim.get("/login")
    attacker = victim.copy()
    victim.send("/login", name="vera", password=PASSWORD)
    assert everywhere(victim) == {200} and everywhere(attacker) == {303}
    victim.get("/")
    assert victim.token != attacker.token
    own = Visitor(desk)
    own.log_in("otto")
    before = own.copy()
    own.get("/login")
    own.send("/login", name="vera", password=PASSWORD)
    assert everywhere(before) == {303}  # the session that it replaced has ended


@pytest.mark.parametrize(
    ("token", "headers", "code"),
    [
        ("", {}, "stale_form"),
        ("wrong", {}, "stale_form"),
        ("another's", {}, "stale_form"),
        ("right", {"Sec_Fetch_Site": "cross-site"}, "forbidden"),
        ("right", {"Sec_Fetch_Site": "same-site"}, "forbidden"),
        ("right", {"Origin": "http://evil.example"}, "forbidden"),
        ("right", {"Origin": "null"}, "forbidden"),
    ],
)
def test_a_form_counts_from_its_own_page_alone(
    desk: Receiver, token: str, headers: dict[str, str], code: str
) -> None:
    visitor, other = Visitor(desk), Visitor(desk)
    visitor.log_in("otto")
    visitor.get("/")
    other.get("/login")
    shown = {"right": visitor.token, "another's": other.token}.get(token, token)
    refused = visitor.send("/logout", headers, form_token=shown)
    assert code_of(refused) == code
    assert everywhere(visitor) == {200}
    # A log-in that another site forges would let its victim work as someone else.
    other.token = "wrong"
    assert other.send("/login", name="vera", password=PASSWORD).status == 400


def test_an_unknown_name_and_a_wrong_password_look_alike(desk: Receiver) -> None:
    said = {}
    for name in ("vera", "nemo-nobody"):
        answer = Visitor(desk).log_in(name, "not the password at all")
        said[name] = (answer.status, answer.body.replace(name.encode(), b""))
        said[name] = (answer.status, len(said[name][1]))
    assert len(set(said.values())) == 1 and said["vera"][0] == 403
    assert "nemo-nobody" not in desk.log.read_text()  # it could be a password
    assert "not the password at all" not in desk.log.read_text()
    assert PASSWORD not in desk.log.read_text()


def test_attempts_are_counted_for_all_processes(own: Path) -> None:
    with running(own, receiver__processes="2") as receiver:
        await_processes(receiver, 2)
        add_user(receiver, "vera", Role.VIEWER)
        visitor = Visitor(receiver)
        with site(receiver) as opened:  # all but the last one
            for _ in range(ATTEMPTS - 1):
                assert opened.users.attempt(("user vera",), datetime.now(UTC)) == 0
        visitor.get("/login")
        said = [visitor.send("/login", name="vera", password="wrong").status for _ in range(3)]
        assert said == [403, 429, 429]
        refused = visitor.send("/login", name="vera", password=PASSWORD)
        assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 30
        with site(receiver) as opened:
            opened.users.forget_attempts(("user vera",))
            for _ in range(ATTEMPTS):
                opened.users.attempt(("address 127.0.0.1",), datetime.now(UTC))
        assert visitor.log_in("vera").status == 429  # any name, from this address
        with site(receiver) as opened:
            opened.users.forget_attempts(("address 127.0.0.1",))
        assert visitor.log_in("vera").status == 303


def test_a_session_ends_when_it_rests_and_in_any_case(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock, auth__session_idle="10min", auth__session_max="1h")
    try:
        spool.site.users.add("vera", Role.VIEWER, passwords.hashed(PASSWORD), spool.now())
        client = create_app(spool).test_client()

        def logged_in(minutes: float) -> bool:
            clock.advance(minutes=minutes)
            return client.get("/status.json").status_code == 200

        def log_in() -> None:
            found = re.search(r'form_token" value="([^"]+)"', client.get("/login").text)
            assert found is not None
            form = {"form_token": found[1], "name": "vera", "password": PASSWORD}
            assert client.post("/login", data=form).status_code == 303

        log_in()
        assert logged_in(9) and not logged_in(11)
        log_in()
        assert all(logged_in(9) for _ in range(6)) and not logged_in(7)
        log_in()
        assert not logged_in(-30)  # the clock was wrong, and would lengthen it
    finally:
        spool.close()


def test_the_key_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    key = session_key(tmp_path)
    assert session_key(tmp_path) == key and len(key) == 64
    file = tmp_path / "session.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)  # others could have read it
    assert session_key(tmp_path) != key
    file.write_bytes(b"short")
    assert len(session_key(tmp_path)) == 64
    file.unlink()
    file.symlink_to("/etc/hostname")
    assert len(session_key(tmp_path)) == 64 and not file.is_symlink()


def test_from_an_address_that_is_not_trusted_the_proxys_header_is_ignored(own: Path) -> None:
    with running(own, **TRUSTED) as receiver:
        visitor = Visitor(receiver, X_Remote_User="anna", X_Groups="admin")
        assert visitor.get("/").status == 303
        (logged,) = [one for one in receiver.events if one["event"] == "proxy_user.ignored"]
        assert logged["peer"] == "127.0.0.1" and "anna" not in str(logged)
        # Beside such a proxy no one is this machine itself.
        assert Visitor(receiver).get("/").status == 303


def test_the_user_whom_a_trusted_proxy_names_is_logged_in(
    own: Path, photo: Callable[[], bytes]
) -> None:
    trusted = {**TRUSTED, "auth__proxy_addresses": "127.0.0.0/8"}
    with running(own, **trusted, receiver__auth="open") as receiver:
        image = receiver.post_raw(photo()).json["id"]
        for groups, role in (("staff,Operator", "operator"), ("", "viewer"), ("x", "viewer")):
            visitor = Visitor(receiver, X_Remote_User="anna@example.com", X_Groups=groups)
            page = visitor.get("/").body.decode()
            assert "anna@example.com" in page and f"({role})" in page
            # The proxy's own cookie comes along by itself, so forms need the token here, too.
            assert visitor.send(f"/images/{image}/retry", form_token="").status in (400, 403)
            answer = visitor.send(f"/images/{image}/retry", {"X_Forwarded_For": "203.0.113.9"})
            assert answer.status == (303 if role == "operator" else 403)
        with site(receiver) as opened:
            (line,) = opened.audit.entries()
        assert (line.who, line.address) == ("anna@example.com", "203.0.113.9")
        for name in ("anna, evil", "-x", "x" * 65):
            assert Visitor(receiver, X_Remote_User=name).get("/").status == 303
