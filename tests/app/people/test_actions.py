"""What people do on the page: each role, each form, and what stays of it in the audit log."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from headgate.spool.budget.limit import LIMIT
from headgate.spool.image.image import State
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.gone import Stage
from headgate.spool.site.users import Role
from headgate.spool.spool import RETRY, Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.people import ROLES, Visitor, code_of
from tests.support.receiver import Receiver, site
from tests.support.spooling import put, settings_for

FORMS: dict[str, tuple[Role, dict[str, str]]] = {
    "/images/{image}/retry": (Role.OPERATOR, {}),
    "/images/{image}/discard": (Role.OPERATOR, {"reason": "a test"}),
    "/operate/retry-all": (Role.OPERATOR, {}),
    "/operate/pause": (Role.OPERATOR, {"for": "8h", "reason": "work"}),
    "/operate/resume": (Role.OPERATOR, {}),
    "/operate/limit": (Role.OPERATOR, {"share": "60%", "for": "30min"}),
    "/operate/limit-end": (Role.OPERATOR, {}),
    "/operate/silence": (Role.OPERATOR, {"what": "all", "for": "2h"}),
    "/operate/silence-end": (Role.OPERATOR, {"what": "all"}),
    "/operate/devices/add": (Role.ADMIN, {"name": "cam-{who}", "urgent": "on"}),
    "/images/{waits}/hold": (Role.OPERATOR, {"reason": "claim 4711"}),
    "/images/{waits}/release": (Role.OPERATOR, {}),
    "/operate/devices/cam-x/hold": (Role.OPERATOR, {"reason": "claim 4711"}),
    "/operate/devices/cam-x/release": (Role.OPERATOR, {}),
    "/operate/devices/cam-x/label": (Role.ADMIN, {"label": "Front door", "group": "north"}),
    "/operate/devices/cam-{who}/rotate": (Role.ADMIN, {"overlap": "0s"}),
    "/operate/devices/cam-{who}/revoke": (Role.ADMIN, {}),
    "/operate/devices/cam-{who}/rename": (Role.ADMIN, {"name": "now-{who}"}),
    "/operate/devices/now-{who}/remove": (Role.ADMIN, {}),
}
PAGES = {
    "/operate": Role.OPERATOR,
    "/audit": Role.OPERATOR,
    "/images/{image}/discard": Role.OPERATOR,
    "/operate/devices/cam-x": Role.ADMIN,
    "/find": Role.VIEWER,
    "/runs": Role.VIEWER,
}


@pytest.fixture
def spool(desk: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    """The receiver's, open in this process as well."""
    settings = settings_for(tmp_path_factory.mktemp("also"), spool__path=str(desk.spool))
    with closing(Spool.open(settings, create=False, probe=False)) as opened:
        yield opened


@pytest.fixture
def image(spool: Spool) -> str:
    """One that is set aside."""
    ident = put(spool, os.urandom(30), "cam-x").receipt.id
    item = spool.catalog.get(ident)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).set_aside(item, "AccessDenied", spool.now())
    return ident


@pytest.mark.parametrize("who", ROLES)
def test_each_role_may_do_what_is_its_own(
    desk: Receiver, spool: Spool, image: str, who: str
) -> None:
    role = ROLES[who]
    if not spool.site.devices.is_named("cam-x"):
        spool.site.devices.add(["cam-x"], spool.now())
    waits = put(spool, os.urandom(30), "cam-x").receipt.id
    visitor = Visitor(desk)
    visitor.log_in(who)
    large = visitor.get(f"/images/{waits}/view").body.decode()
    assert (f"/images/{waits}/hold" in large) == role.may(Role.OPERATOR)
    assert "Waits for" in large
    front = visitor.get("/").body.decode()
    assert (f"/images/{image}/discard" in front) == ("/operate" in front) == role.may(Role.OPERATOR)
    for path, needed in PAGES.items():
        answer = visitor.get(path.format(image=image, who=who))
        assert answer.status == (200 if role.may(needed) else 403), path
    before = len(spool.site.audit.entries(who=who, limit=10_000))
    for path, (needed, fields) in FORMS.items():
        said = {name: text.format(who=who) for name, text in fields.items()}
        where = path.format(image=image, waits=waits, who=who)
        # Without the token of the form nothing happens, whatever the role.
        assert visitor.send(where, form_token="", **said).status in (400, 403)
        answer = visitor.send(where, **said)
        if not role.may(needed):
            assert (answer.status, code_of(answer)) == (403, "role_needed"), path
        else:
            assert answer.status in (200, 303), path
            page = answer if answer.status == 200 else visitor.get(answer.headers["location"])
            assert b"said trouble" not in page.body, (path, page.body)
    done = [path for path, (needed, _) in FORMS.items() if role.may(needed)]
    lines = spool.site.audit.entries(who=who, limit=10_000)
    lines = lines[: len(lines) - before]
    others = [line for line in lines if line.action != Action.RETRY]  # one for each image
    assert len(others) == sum("retry" not in path for path in done)
    assert {line.action == Action.RETRY for line in lines} == ({True, False} if done else set())
    assert {line.address for line in lines} <= {"127.0.0.1"}
    if role.may(Role.OPERATOR):
        assert spool.site.get(LIMIT) is None and not spool.site.alerts.silences(spool.now())
        assert image in {one.image for one in spool.site.requests() if one.word == RETRY}
        assert image in {line.id for line in spool.site.gone.of(Stage.ASKED)}
        # The receiver moves nothing: the next run does.
        assert "the next run discards it" in visitor.get("/").body.decode()
        item = spool.catalog.get(image)
        assert item is not None and item.state is State.SET_ASIDE
        with spool.hold_drain_lock("a run", 0) as lock:
            Mover(spool, lock).discard()
        (line,) = [one for one in spool.site.gone.of(Stage.DISCARDED) if one.id == image]
        assert (line.who, line.reason) == (who, "a test")
        shown = visitor.get(f"/audit?who={who}").body.decode()
        assert Action.DISCARD in shown and image in shown and "127.0.0.1" in shown


def test_what_was_done_and_what_was_wrong_is_said_once(desk: Receiver, spool: Spool) -> None:
    otto = Visitor(desk)
    otto.log_in("otto")
    otto.get("/operate")
    for path, fields, said in (
        ("/operate/pause", {"for": "soon"}, "is not a duration"),
        ("/operate/limit", {"share": "0%", "for": "1h"}, "pause uploads instead"),
        ("/operate/limit", {"share": "<b>", "for": "1h"}, "is not a percentage"),
        ("/operate/silence", {"what": "nonsense", "for": "1h"}, "there is no alert nonsense"),
        ("/operate/silence-end", {"what": "all"}, "all was not silenced"),
        ("/images/nothing/discard", {"reason": " "}, "give a reason"),
        ("/images/nothing/discard", {"reason": "x"}, "there is no such image"),
    ):
        answer = otto.send(path, **fields)
        assert answer.status == 303, path
        page = otto.get(answer.headers["location"]).body.decode()
        assert re.search(rf'role="alert">[^<]*{re.escape(said)}', page, re.IGNORECASE), page
    assert b'role="alert"' not in otto.get("/operate").body
    otto.send("/operate/pause")
    page = otto.get("/operate").body.decode()
    assert '<pre class="typed" tabindex="0"><code>headgate safe-off</code></pre>' in page
    assert "Uploads are paused until" in page and "Resume uploads" in page
    assert spool.uplink.cap().is_pause
    otto.send("/operate/resume")
    assert not spool.uplink.cap().is_pause


def test_a_gap_is_closed_where_it_is_shown(desk: Receiver, spool: Spool) -> None:
    for number in (1, 5, 8):
        put(spool, os.urandom(30), "cam-gap", sequence=number)
    vera, otto = Visitor(desk), Visitor(desk)
    vera.log_in("vera")
    shown = vera.get("/devices/cam-gap").body.decode()
    assert "5 of 1 to 8" in shown and "Close the gap" not in shown
    where = "/operate/devices/cam-gap/gaps"
    assert vera.send(where, first="2", last="4").status == 403
    otto.log_in("otto")
    assert "Close the gap 2 to 4" in otto.get("/devices/cam-gap").body.decode()
    closed = otto.send(where, first="2", last="4")
    page = otto.get(closed.headers["location"]).body.decode()
    assert "3 images will not come: the gap is closed." in page and "2 of 1 to 8" in page
    left = spool.catalog.gaps("cam-gap", 10)
    assert left is not None and left.gaps == ((6, 7),)
    (line,) = spool.site.audit.entries(who="otto", limit=1)
    assert (line.action, line.subject, line.detail) == (
        Action.DEVICE_GAPS, "cam-gap", "2-4 will not come",
    )  # fmt: skip
    refused = otto.send(where, first="-2", last="4")
    assert b"name the first and the last" in otto.get(refused.headers["location"]).body.lower()


def test_a_person_reads_a_refusal_on_a_page_and_the_log_has_it(desk: Receiver) -> None:
    vera = Visitor(desk)
    vera.log_in("vera")
    refused = vera.get("/operate?vera")
    assert refused.status == 403 and "text/html" in refused.headers["content-type"]
    assert b"This is for users with the role operator" in refused.body
    vera.get("/")
    vera.send("/logout")
    gone = vera.send("/operate/pause")  # in a window that was left open
    assert code_of(gone) == "login_required" and b'href="/login"' in gone.body
    assert vera.get("/operate", Accept="application/json").code == "login_required"
    logged = [one for one in desk.events if one["event"] == "request.refused"]
    assert "role_needed" in {one["code"] for one in logged}


def test_a_new_token_is_shown_once_and_written_nowhere(desk: Receiver, spool: Spool) -> None:
    anna = Visitor(desk)
    anna.log_in("anna")
    anna.get("/operate")
    page = anna.send("/operate/devices/add", name="cam-new")
    token = re.search(r"<code>(hg_[^<]+)</code>", page.body.decode())
    assert token is not None and page.headers["cache-control"] == "no-store"
    assert spool.site.devices.authenticate(token[1], spool.now()) is not None
    again = anna.send("/operate/devices/add", name="cam-new")
    assert again.status == 303
    for text in (anna.get("/operate").body.decode(), desk.log.read_text()):
        assert token[1] not in text
    assert not any(token[1] in line.detail for line in spool.site.audit.entries())
    page = anna.send("/operate/devices/cam-new/rotate", overlap="0s")
    assert spool.site.devices.authenticate(token[1], spool.now()) is None
    assert token[1].encode() not in page.body


def test_the_audit_log_has_pages(desk: Receiver) -> None:
    with site(desk) as opened:
        with opened.together():
            for number in range(205):
                by = Actor("mia <b>", "192.0.2.7")
                opened.audit.record(by, Action.PAUSE, datetime.now(UTC), f"<i>{number}</i>")
    otto = Visitor(desk)
    otto.log_in("otto")
    path, seen = "/audit?who=mia%20%3Cb%3E", []
    while path:
        page = otto.get(path).body.decode()
        seen += [int(n) for n in re.findall(r"&lt;i&gt;(\d+)&lt;/i&gt;", page)]
        older = re.search(r'href="(/audit\?before=[^"]+)"', page)
        path = older[1].replace("&amp;", "&") if older else ""
    assert seen == list(range(204, -1, -1))
    assert otto.get("/audit?before=x&who=" + "y" * 999).status == 200


def test_what_is_held_is_released_where_it_is_shown(desk: Receiver, spool: Spool) -> None:
    otto = Visitor(desk)
    otto.log_in("otto")
    ident = put(spool, os.urandom(30), "cam-held").receipt.id
    for page, address in (
        (f"/images/{ident}/view", f"/images/{ident}"),
        ("/devices/cam-held", "/operate/devices/cam-held"),
    ):
        otto.get(page)
        answer = otto.send(f"{address}/hold", reason="claim 4711")
        assert (answer.status, answer.headers["location"]) == (303, page)
        shown = otto.get(page).body.decode()
        assert "claim 4711" in shown and "otto" in shown
        assert f'action="{address}/release"' in shown and f'action="{address}/hold"' not in shown
        item = spool.catalog.get(ident)
        assert item is not None and item.state is State.HELD
        assert otto.send(f"{address}/release").headers["location"] == page
        item = spool.catalog.get(ident)
        assert item is not None and item.state is State.WAITING
        otto.send(f"{address}/release")  # once more
        assert b"is not held" in otto.get(page).body
    assert otto.send("/images/cam-held/hold").status == 404  # a device is no image


def test_a_device_that_cannot_be_renamed_says_why_on_its_page(desk: Receiver, spool: Spool) -> None:
    put(spool, os.urandom(30), "cam-old")
    put(spool, os.urandom(30), "cam-other")
    anna = Visitor(desk)
    anna.log_in("anna")
    anna.get("/operate/devices/cam-old")
    answer = anna.send("/operate/devices/cam-old/rename", name="cam-other")
    assert answer.headers["location"] == "/operate/devices/cam-old"
    assert b"cam-other is another device" in anna.get("/operate/devices/cam-old").body
    assert anna.send("/operate/devices/cam-old/label", label="Door", group="").status == 303
    assert spool.site.labels.of("cam-old").label == "Door"
    assert b'value="Door"' in anna.get("/operate/devices/cam-old").body
