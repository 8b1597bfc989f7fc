"""A person's browser, as far as cookies and forms go, and users of a running receiver."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from werkzeug.security import generate_password_hash

from headgate.spool.site.users import Role
from tests.support.receiver import Answer, Receiver, site

PASSWORD = "several words make a password"
ROLES = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "anna": Role.ADMIN}
_STORED = generate_password_hash(PASSWORD, "scrypt:1024:8:1")  # cheap to check


def add_user(receiver: Receiver, name: str, role: Role) -> None:
    """As ``headgate user add`` does, in another program; the password is PASSWORD."""
    with site(receiver) as opened:
        opened.users.add(name, role, _STORED, datetime.now(UTC))


def code_of(answer: Answer) -> str:
    """The code of a refusal, on a page for people or as a problem document."""
    found = re.search(rb'data-code="(\w+)"', answer.body)
    return found[1].decode() if found else answer.code


class Visitor:
    """Keeps cookies, and sends forms with the token of the page that it looked at last."""

    def __init__(self, receiver: Receiver, **headers: str) -> None:
        self.receiver = receiver
        self.headers = {"Accept": "text/html", **headers}
        self.cookies: dict[str, str] = {}
        self.token = ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        sent = {**self.headers, **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.receiver.request(method, path, body, **sent)
        for name, morsel in SimpleCookie(answer.headers.get("set-cookie", "")).items():
            if morsel.value and morsel["max-age"] != "0":
                self.cookies[name] = morsel.value
            else:
                self.cookies.pop(name, None)
        found = re.search(rb'name="form_token" value="([^"]+)"', answer.body)
        if found:
            self.token = found[1].decode()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def send(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Answer:
        """Send a form."""
        form = urlencode({"form_token": self.token, **fields}).encode()
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, form, **kind, **(headers or {}))

    def log_in(self, name: str, password: str = PASSWORD, then: str = "") -> Answer:
        self.get("/login")
        return self.send("/login", name=name, password=password, next=then)

    def copy(self) -> Visitor:
        """Someone who has stolen the cookies."""
        thief = Visitor(self.receiver, **self.headers)
        thief.cookies, thief.token = dict(self.cookies), self.token
        return thief
