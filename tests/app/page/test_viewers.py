"""Who sees the page, and how much of it: browsers under foreign names, and cameras' tokens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headgate.monitor.receiver import PROXIED
from headgate.spool.site.site import Site
from tests.support.people import code_of
from tests.support.receiver import Answer, Receiver, running
from tests.support.spooling import open_spool
from uploader.alerts.evaluate import look as look_at

EVIL = "evil.example:8080"
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Upgrade-Insecure-Requests": "1",
}
"""What a browser sends to a plain http:// name: no Sec-Fetch-Site, and no Origin with a GET."""


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Its names are set, and it listens to this machine alone: which says nothing under "open"."""
    settings = {"receiver__auth": "open", "receiver__hosts": "gateway.north.example",
                "receiver__device_rate": "0"}  # fmt: skip
    with running(tmp_path_factory.mktemp("open"), **settings) as found:
        yield found


def look(receiver: Receiver, path: str, host: str, method: str = "GET", **more: str) -> Answer:
    headers = {name.replace("-", "_"): value for name, value in BROWSER.items()}
    return receiver.request(method, path, **{**headers, "Host": host, **more})


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics"])
@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8080", 200), ("192.168.10.2", 200), ("[fd00::2]:8080", 200), ("localhost", 200),
     ("gateway.north.example:8080", 200), ("GATEWAY.North.example", 200), (EVIL, 403),
     ("north.example", 403)],
)  # fmt: skip
def test_under_a_foreign_name_the_page_is_shown_to_nobody(
    open_to_all: Receiver, path: str, host: str, status: int
) -> None:
    answer = look(open_to_all, path, host)
    assert answer.status == status
    if status == 403:
        assert answer.code == "forbidden" and "receiver.hosts" in answer.json["detail"]


def test_a_camera_may_call_the_receiver_what_it_likes(
    open_to_all: Receiver, photo: Callable[[], bytes]
) -> None:
    """Uploads, receipts and the handshake, with what apps and kiosks in a web view add."""
    for more in ({}, {"Origin": "null"}, {"Origin": "file://"}, {"Origin": f"http://{EVIL}"},
                 {"Origin": "http://kiosk.example", "Sec_Fetch_Site": "cross-site"}):  # fmt: skip
        said = open_to_all.post_raw(photo(), Host=EVIL, X_Device="cam-7", **more)
        assert said.status == 201
        assert open_to_all.request("GET", f"/images/{said.json['id']}", Host=EVIL).status == 200
        assert open_to_all.request("GET", "/limits", Host=EVIL).status == 200
        assert open_to_all.request("OPTIONS", "/images", Host=EVIL, **more).status == 200


def test_a_page_that_was_made_to_lead_here_can_neither_look_nor_act(
    open_to_all: Receiver, photo: Callable[[], bytes]
) -> None:
    image = open_to_all.post_raw(photo(), X_Device="cam-7").json["id"]
    same_origin = {"Origin": f"http://{EVIL}"}
    for method, path in (("GET", f"/images/{image}/thumbnail"), ("POST", f"/images/{image}/retry"),
                         ("POST", "/jobs/drain")):  # fmt: skip
        assert look(open_to_all, path, EVIL, method, **same_origin).code == "forbidden"
    own = {"Origin": "http://gateway.north.example"}
    answer = look(open_to_all, f"/images/{image}/retry", "gateway.north.example", "POST", **own)
    assert code_of(answer) == "stale_form"  # its own page's form would have the token


def test_prometheus_scrapes_by_an_address_a_name_of_this_machine_or_with_a_token(
    open_to_all: Receiver,
) -> None:
    for host in ("192.168.10.2:8080", "gateway.north.example:8080"):
        assert open_to_all.request("GET", "/metrics", Host=host).status == 200
    refused = open_to_all.request("GET", "/metrics", Host="other.example:8080")
    assert refused.code == "forbidden" and "receiver.hosts" in refused.json["detail"]
    device = {"Host": "other.example:8080"}
    device["Authorization"] = f"Bearer {enrol(open_to_all, 'prometheus')}"
    assert open_to_all.request("GET", "/metrics", **device).status == 403
    with closing(Site(open_to_all.spool / "state" / "site.sqlite3")) as site:
        token = site.users.add_scrape_token("prometheus", datetime.now(UTC))
        try:
            scrape = {"Host": "other.example:8080", "Authorization": f"Bearer {token}"}
            assert open_to_all.request("GET", "/metrics", **scrape).status == 200
        finally:
            site.users.remove_scrape_token("prometheus")


def test_open_behind_a_proxy_is_said_on_the_page_and_in_alerts(
    own: Path, photo: Callable[[], bytes]
) -> None:
    """To the receiver all that a proxy lets through comes from this machine."""
    anyone = "receiver.auth is open"
    with running(own, receiver__auth="open") as receiver:
        assert receiver.post_raw(photo()).status == 201  # from this machine itself
        assert anyone not in receiver.request("GET", "/").body.decode()
        said = receiver.post_raw(photo(), X_Forwarded_For="203.0.113.9")
        assert said.status == 201
        assert anyone in receiver.request("GET", "/").body.decode()
        with closing(
            open_spool(own / "x", receiver__auth="open", spool__path=str(receiver.spool))
        ) as spool:
            assert look_at(spool).open_to_all
            spool.site.put(PROXIED, spool.site.get(PROXIED) - 8 * 86_400)
            assert not look_at(spool).open_to_all  # it was long ago


def test_a_proxy_whose_clients_need_a_token_is_nothing_to_warn_of(
    own: Path, photo: Callable[[], bytes]
) -> None:
    with running(own, receiver__auth="open") as receiver:
        token = enrol(receiver, "cam-1")
        proxied = {"X_Forwarded_For": "203.0.113.9", "Authorization": f"Bearer {token}"}
        assert receiver.post_raw(photo(), **proxied).status == 201
        assert "receiver.auth is open" not in receiver.request("GET", "/").body.decode()


def test_unless_names_are_set_those_of_this_machine_count(own: Path) -> None:
    with running(own, receiver__auth="open") as receiver:
        assert look(receiver, "/", socket.gethostname()).status == 200
        assert look(receiver, "/", "gateway.north.example").code == "forbidden"


def test_a_cameras_token_reads_its_own_receipts_and_the_sites_all(
    own: Path, photo: Callable[[], bytes]
) -> None:
    with running(own, receiver__auth="token") as receiver:
        one, two = enrol(receiver, "cam-1"), enrol(receiver, "cam-2")
        desk = enrol(receiver, "desk", may_drain=True)
        images = {}
        for token in (one, two):
            said = receiver.post_raw(photo(), Authorization=f"Bearer {token}").json
            images[said["device"]] = said["id"]
        for token, sees in ((one, {"cam-1"}), (two, {"cam-2"}), (desk, {"cam-1", "cam-2"})):
            with_token = {"Authorization": f"Bearer {token}"}
            for path in ("/", "/status.json", f"/images/{images['cam-1']}/thumbnail"):
                assert receiver.request("GET", path, **with_token).code == "login_required"
            for device, image in images.items():
                status = 200 if device in sees else 404
                assert receiver.request("GET", f"/images/{image}", **with_token).status == status


def enrol(receiver: Receiver, name: str, *, may_drain: bool = False) -> str:
    """As ``headgate device add`` does, in another program."""
    with closing(Site(receiver.spool / "state" / "site.sqlite3")) as site:
        tokens = site.devices.add([name], datetime.now(UTC), urgent=False, may_drain=may_drain)
    return tokens[0].secret
