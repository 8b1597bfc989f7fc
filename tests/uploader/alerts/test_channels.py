"""Messages on their way: a real mail server, an endpoint that answers as Slack does, an outage."""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from headgate.monitor.rules import AlertCondition
from headgate.spool.budget.uplink import Part
from headgate.spool.site.alerts import Message
from headgate.spool.spool import Spool
from tests.support.http_server import Handler, serving
from tests.support.s3_server import CountingPacer
from tests.support.spooling import Clock, Crash, open_spool
from tests.support.wait import join
from uploader.alerts import outbox
from uploader.alerts.channel import DeliveryError
from uploader.alerts.lifecycle import Event, MessageKind, step
from uploader.alerts.mail import Mail
from uploader.alerts.messages import Scene, messages
from uploader.alerts.notify import let_out
from uploader.alerts.slack import Slack

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


@dataclass
class Slackish:
    """Answers as the documentation of incoming webhooks says; ``script``: what to answer next."""

    url: str = ""
    script: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    got: list[str] = field(default_factory=list)


@pytest.fixture
def slack() -> Iterator[Slackish]:
    at = Slackish()

    class Answers(Handler):
        def do_POST(self) -> None:
            body = self.body()
            status, said, headers = at.script.pop(0) if at.script else (200, b"ok", {})
            if status == 200:
                assert self.headers["Content-Type"].startswith("application/json")
                at.got.append(json.loads(body)["text"])
            self.answer(status, said, headers)

    with serving(Answers) as port:
        at.url = f"http://127.0.0.1:{port}/services/T0/B0/secret"
        yield at


class Inbox:
    """A mail server's messages; ``refuse`` is answered instead of taking one."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse = ""

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        made = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(made, EmailMessage)
        self.mails.append(made)
        return "250 taken"


def knock(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    known = (data.login, data.password) == (b"north", b"p@ss")
    return AuthResult(success=known, handled=False)  # the server says so itself


class Post(Controller):
    """aiosmtpd at a port of its own choice."""

    def __init__(self, inbox: Inbox, **more: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        super().__init__(inbox, hostname="127.0.0.1", port=port, **more)


@pytest.fixture
def post() -> Iterator[tuple[Inbox, str]]:
    inbox = Inbox()
    controller = Post(inbox)
    controller.start()
    yield inbox, f"smtp://127.0.0.1:{controller.port}"
    controller.stop()


def message(number: int = 0, kind: str = "alert", at: datetime = AT) -> Message:
    return Message(kind, f"no-run.{number}", f"north: <No> run & {number}", f"Text {number}.", at)


# -- Slack


def test_slack_gets_its_text_escaped_and_every_byte_passes_the_pacer(slack: Slackish) -> None:
    pacer = CountingPacer()
    Slack(slack.url).send(message(), pacer)
    assert slack.got == ["*north: &lt;No&gt; run &amp; 0*\nText 0."]
    assert pacer.written > len(slack.got[0])


@pytest.mark.parametrize("said", [b"<html>Sign in</html>", b"", b"ok, sign in here", b"OK"])
def test_a_200_that_is_not_slacks_is_no_delivery(slack: Slackish, said: bytes) -> None:
    """A portal, or a proxy, that answers every address with a page."""
    slack.script = [(200, said, {})]
    with pytest.raises(DeliveryError, match="is not from Slack, which says ok") as refused:
        Slack(slack.url).send(message(), CountingPacer())
    assert not refused.value.dead and not refused.value.unfit  # it is tried again


@pytest.mark.parametrize(
    ("status", "said", "dead", "unfit", "wait"),
    [
        (404, b"no_service", True, False, 0),
        (410, b"channel_is_archived", True, False, 0),
        (403, b"action_prohibited", True, False, 0),
        (400, b"invalid_payload", False, True, 0),
        (429, b"rate_limited", False, False, 7),
        (500, b"rollup_error", False, False, 0),
    ],
)
def test_what_slack_answers_is_understood(
    slack: Slackish, status: int, said: bytes, dead: bool, unfit: bool, wait: float
) -> None:
    slack.script = [(status, said, {"Retry-After": "7"} if status == 429 else {})]
    with pytest.raises(DeliveryError) as refused:
        Slack(slack.url).send(message(), CountingPacer())
    trouble = refused.value
    assert (trouble.dead, trouble.unfit, trouble.wait_seconds) == (dead, unfit, wait)
    assert str(status) in str(trouble) and said.decode() in str(trouble)
    assert "secret" not in str(trouble)  # the webhook's address is one


# -- mail


def test_mail_of_one_alert_hangs_together(post: tuple[Inbox, str]) -> None:
    inbox, url = post
    way = Mail(url, ("ops@example.net", "boss@example.net"), "gate@example.net")
    pacer = CountingPacer()
    for kind in ("alert", "reminder", "recovery"):
        way.send(message(1, kind), pacer)
    first, *later = inbox.mails
    assert first["To"] == "ops@example.net, boss@example.net"
    assert first["From"] == "gate@example.net"
    assert first["Subject"] == "north: <No> run & 1"
    assert first.get_content().split() == ["Text", "1."]
    assert {mail["References"] for mail in later} == {first["Message-ID"]}
    assert {mail["In-Reply-To"] for mail in later} == {first["Message-ID"]}
    assert len({mail["Message-ID"] for mail in inbox.mails}) == 3
    assert pacer.written > 3 * 300


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not:UserWarning")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_password_goes_through_tls_only(
    scheme: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    inbox = Inbox()
    more: dict[str, Any] = {"authenticator": knock, "auth_required": True}
    if scheme == "smtps":
        more |= {"ssl_context": context, "auth_require_tls": False}  # it is in TLS already
    else:
        more |= {"tls_context": context, "require_starttls": True}
    controller = Post(inbox, **more)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    controller.start()
    try:
        where = f"127.0.0.1:{controller.port}"
        Mail(f"{scheme}://north:p%40ss@{where}", ("ops@example.net",)).send(
            message(), CountingPacer()
        )
        assert len(inbox.mails) == 1
        with pytest.raises(DeliveryError, match=r"alerts\.smtp_url") as refused:
            Mail(f"{scheme}://north:wrong@{where}", ("ops@example.net",)).send(
                message(), CountingPacer()
            )
        assert refused.value.dead and "wrong" not in str(refused.value)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(DeliveryError, match="cannot be trusted"):
            Mail(f"{scheme}://north:p%40ss@{where}", ("ops@example.net",)).send(
                message(), CountingPacer()
            )
    finally:
        controller.stop()


def test_a_password_is_not_sent_where_no_tls_is_offered(post: tuple[Inbox, str]) -> None:
    inbox, url = post
    with pytest.raises(DeliveryError, match="offers no TLS") as refused:
        Mail(url.replace("//", "//north:p@"), ("ops@example.net",)).send(message(), CountingPacer())
    assert refused.value.dead and inbox.mails == []


@pytest.mark.parametrize(
    ("refuse", "unfit"), [("552 too large", True), ("451 try again later", False)]
)
def test_mail_that_is_refused_is_tried_again_only_where_that_helps(
    post: tuple[Inbox, str], refuse: str, unfit: bool
) -> None:
    inbox, url = post
    inbox.refuse = refuse
    with pytest.raises(DeliveryError, match=refuse[:3]) as refused:
        Mail(url, ("ops@example.net",)).send(message(), CountingPacer())
    assert refused.value.unfit is unfit and not refused.value.dead


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"smtp://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(DeliveryError, match="cannot be used"):
            Mail(url, ("ops@example.net",)).send(message(), CountingPacer())


# -- the outbox


class Way:
    """A channel that can be broken, in simulated time."""

    name = "slack"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.got: list[tuple[datetime, str]] = []
        self.trouble: DeliveryError | None = None
        self.tried = 0

    def send(self, said: Message, pacer: object) -> None:
        self.tried += 1
        if self.trouble is not None:
            raise self.trouble
        self.got.append((self.clock.at, said.title))


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    made = open_spool(tmp_path, clock)
    yield made
    made.close()


def go(spool: Spool, clock: Clock, way: Way) -> int:
    return outbox.send(
        spool.site.alerts, [way], CountingPacer(), clock, lambda s: clock.advance(seconds=s)
    )


def test_at_most_one_a_second_leaves(spool: Spool, clock: Clock) -> None:
    way = Way(clock)
    spool.site.alerts.post([message(n, at=clock()) for n in range(5)], ["slack"])
    assert go(spool, clock, way) == 5
    times = [at for at, _ in way.got]
    assert all(b - a >= timedelta(seconds=1) for a, b in pairwise(times))
    assert go(spool, clock, way) == 0 and way.tried == 5


def test_a_two_hour_outage_is_told_of_in_order_when_it_is_over(spool: Spool, clock: Clock) -> None:
    """The link goes, ten cameras are counted missing, the link comes back: simulated, a look a
    minute."""
    way = Way(clock)
    alerts = spool.site.alerts
    start = clock.at
    for minute in range(180):
        out = 10 <= minute < 130
        way.trouble = DeliveryError("no route") if out else None
        found = [AlertCondition("uplink-down", "Nothing was reached.")] if out else []
        if out and minute > 30:
            found += [
                AlertCondition("device-silent", "It is silent.", f"cam-{n}") for n in range(40)
            ]
        if minute > 60:
            found.append(AlertCondition("set-aside", "1 image was set aside."))

        def look(before: Any, silences: Any, found: Any = found) -> Any:
            after, events = step(before, found, clock.at, silences)
            return after, messages(events, Scene("north", clock.at))

        alerts.change(look, ["slack"])
        go(spool, clock, way)
        clock.at = start + timedelta(minutes=minute + 1)
    assert [title for _, title in way.got] == [
        "north: The uplink is down",
        "north: Images were set aside",
        "north: resolved: The uplink is down",
    ]
    after = way.got[0][0] - (start + timedelta(minutes=130))
    assert timedelta(0) <= after <= timedelta(minutes=3)
    assert way.tried < 2 * 60 + 10  # it is left alone for a while after each failure


def test_a_dead_channel_is_told_by_the_other_one(spool: Spool, clock: Clock) -> None:
    way, other = Way(clock), Way(clock)
    other.name = "mail"
    way.trouble = DeliveryError("Slack answers 404 (no_service)", dead=True)
    spool.site.alerts.post([message(at=clock())], ["slack", "mail"])
    ways = [way, other]
    outbox.send(spool.site.alerts, ways, CountingPacer(), clock, lambda _s: None)
    assert [title for _, title in other.got] == ["north: <No> run & 0"]
    assert outbox.failing(spool.site.alerts, ways, clock.at) == {
        "slack": "Slack answers 404 (no_service)"
    }
    assert [letter.channel for letter in spool.site.alerts.letters()] == ["slack"]
    way.trouble = None  # a person made a new webhook
    clock.advance(minutes=16)
    assert go(spool, clock, way) == 1
    assert outbox.failing(spool.site.alerts, ways, clock.at) == {}


def test_slacks_own_word_on_when_to_come_back_is_kept(spool: Spool, clock: Clock) -> None:
    way = Way(clock)
    way.trouble = DeliveryError("429", wait_seconds=100)
    spool.site.alerts.post([message(at=clock())], ["slack"])
    go(spool, clock, way)
    way.trouble = None
    clock.advance(seconds=98)
    assert not outbox.due(spool.site.alerts, [way], clock.at) and go(spool, clock, way) == 0
    clock.advance(seconds=3)
    assert outbox.due(spool.site.alerts, [way], clock.at) and go(spool, clock, way) == 1


def test_a_clock_that_was_set_back_holds_nothing_up(spool: Spool, clock: Clock) -> None:
    way = Way(clock)
    way.trouble = DeliveryError("no route")
    spool.site.alerts.post([message(at=clock())], ["slack"])
    go(spool, clock, way)
    way.trouble = None
    clock.advance(days=-400)
    assert outbox.due(spool.site.alerts, [way], clock.at) and go(spool, clock, way) == 1


def test_a_message_that_is_refused_does_not_hold_up_the_next(spool: Spool, clock: Clock) -> None:
    way = Way(clock)
    spool.site.alerts.post([message(1, at=clock()), message(2, at=clock())], ["slack"])
    refusals = iter([DeliveryError("400", unfit=True)])
    takes = way.send

    def send(said: Message, pacer: object) -> None:
        for refusal in refusals:
            raise refusal
        takes(said, pacer)

    way.send = send  # type: ignore[method-assign]
    assert go(spool, clock, way) == 1
    assert way.got[0][1].endswith("2") and spool.site.alerts.letters() == []


def test_what_waited_for_a_week_is_no_news(spool: Spool, clock: Clock) -> None:
    spool.site.alerts.post([message(at=clock())], ["slack"])
    clock.advance(days=8)
    assert go(spool, clock, Way(clock)) == 0
    assert spool.site.alerts.letters() == []


def test_a_reminder_takes_the_place_of_one_that_never_got_out(spool: Spool, clock: Clock) -> None:
    for kind in ("alert", "reminder", "reminder"):
        spool.site.alerts.post([message(1, kind, clock())], ["slack"])
    assert [letter.message.kind for letter in spool.site.alerts.letters()] == ["alert", "reminder"]


def test_no_channel_is_a_channel_that_does_nothing(spool: Spool) -> None:
    assert outbox.channels(spool.settings) == []
    assert let_out(spool.site.alerts, spool.uplink, "a test", []) == 0


def test_a_kill_between_deciding_and_queueing_loses_nothing(spool: Spool, clock: Clock) -> None:
    """Both are one commit: an error in the one leaves the other undone."""

    def look(before: Any, silences: Any) -> Any:
        after, events = step(before, [AlertCondition("no-run", "None.")], clock.at, silences)
        return after, [*messages(events, Scene("north", clock.at)), object()]

    with pytest.raises(Exception, match=r"dataclass|attribute"):
        spool.site.alerts.change(look, ["slack"])
    assert spool.site.alerts.all() == () and spool.site.alerts.letters() == []


def test_a_kill_before_a_message_is_crossed_out_says_it_once_more(
    spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: nobody can tell whether what was sent was read."""
    way, alerts = Way(clock), spool.site.alerts
    alerts.post([message(1, at=clock()), message(2, at=clock())], ["slack"])

    def killed(_letter: object) -> None:
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(alerts, "drop", killed)
        go(spool, clock, way)
    assert go(spool, clock, way) == 2
    assert [title[-1] for _, title in way.got] == ["1", "1", "2"]


def test_messages_leave_on_the_small_part_of_the_rate(
    tmp_path: Path, slack: Slackish, clock: Clock
) -> None:
    made = open_spool(tmp_path / "own", alerts__slack_webhook=slack.url)
    try:
        ways = outbox.channels(made.settings)
        made.site.alerts.post([message(at=made.now())], ["slack"])
        assert let_out(made.site.alerts, made.uplink, "a test", ways) == 1 and len(slack.got) == 1
        from headgate.spool.budget import ledger

        use = {part: ledger.read_use(made.files.state / part, 300) for part in Part}
        assert use[Part.DRAIN].interval == 0 < use[Part.OTHER].interval
    finally:
        made.close()


# -- what is said


def test_forty_silent_cameras_are_one_message() -> None:
    found = [
        AlertCondition("device-silent", f"cam-{n} has sent nothing.", f"cam-{n}") for n in range(40)
    ]
    alerts, events = step([], found, AT)
    (said,) = messages(events, Scene("north", AT))
    assert said.title == "north: 40 devices are silent"
    assert "And 35 more." in said.text and "headgate device list" in said.text
    _, events = step(alerts, [], AT + timedelta(hours=2))
    (over,) = messages(events, Scene("north", AT + timedelta(hours=2)))
    assert over.thread == said.thread and "It lasted 2 h" in over.text
    assert "no acknowledged image was lost" in over.text


def test_a_recovery_says_what_was_lost() -> None:
    alerts, events = step([], [AlertCondition("no-run", "None.")], AT)
    assert [event.kind for event in events] == [MessageKind.ALERT]
    over, events = step(alerts, [], AT + timedelta(minutes=30))
    over, events = step(over, [], AT + timedelta(minutes=40))
    assert [event.kind for event in events] == [MessageKind.RECOVERY]
    scene = Scene("north", AT + timedelta(minutes=40), unaccounted=3)
    (said,) = messages(events, scene)
    assert "3 images are unaccounted for: headgate verify" in said.text
    assert re.search(r"It lasted 30 min\.", said.text)
    assert isinstance(events[0], Event)


def test_an_answer_of_a_server_that_closes_is_read_to_its_end() -> None:
    """Its head may come alone, and its body after it said that it will hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                head = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"
                connection.sendall(head)
                asked.wait(0.2)  # so that the head is read before the body is there
                connection.sendall(b"no_service")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(DeliveryError, match=r"404 \(no_service\)"):
            Slack(f"http://127.0.0.1:{listening.getsockname()[1]}/x").send(
                message(), CountingPacer()
            )
        join(thread)
