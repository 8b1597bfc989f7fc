"""One JSON dialect: every command with --json and every JSON address, in one table each.

Times are RFC 3339 in UTC, names are words with underscores, an error is the problem object of RFC
9457, a list is an array of objects and everything else one object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from app import create_app
from headgate.settings.instants import rfc3339
from headgate.settings.load import load
from headgate.spool.spool import Spool, utc_now
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import put, upload_all
from uploader.cli.main import COMMANDS, headgate

pytestmark = pytest.mark.usefixtures("alone")

IMAGE = "<the image that is set aside>"
CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "alert help": (("paused",),),
    "alert history": ((),),
    "alert list": ((),),
    "alert silence": (("all", "--for", "1h"), ("all", "--off")),
    "alert test": (("--dry-run",),),
    "audit": ((),),
    "check": ((), ("--machine",)),
    "config check": ((),),
    "config show": ((),),
    "cron install": (("--dry-run",),),
    "cron remove": (("--dry-run",),),
    "cron show": ((),),
    "dashboard cloudwatch": ((),),
    "device add": (("cam-9",),),
    "device gaps": (("cam-1",), ("cam-1", "--accept", "2")),
    "device group": (("cam-1", "north"),),
    "device label": (("cam-1", "door"),),
    "device list": ((),),
    "device remove": (("cam-9",),),
    "device rename": (("cam-2", "cam-3"),),
    "device revoke": (("cam-9",),),
    "device rotate": (("cam-9",),),
    "discard": ((IMAGE, "--reason", "a test"),),
    "doctor": ((),),
    "drain": (("--dry-run",),),
    "fleet status": ((),),
    "find": ((), ("--state", "set_aside")),
    "get": ((IMAGE, "-o", "<a folder>.jpg"),),
    "hold": (("cam-1",), ()),
    "import": (("<a folder>", "--device", "cam-7"),),
    "limit": (("60%", "--for", "1h"), (), ("--off",)),
    "list": ((),),
    "pause": (("--for", "1h"),),
    "plan": (("--images-per-minute", "20", "--mb-per-minute", "5", "--disk", "500GB"),),
    "purge": (("--device", "cam-2", "--reason", "a test", "--dry-run"),),
    "release": (("cam-1",),),
    "resume": ((),),
    "retry": (("--all",),),
    "reupload": (("--device", "cam-2", "--dry-run"),),
    "runs": ((),),
    "safe-off": (("--max-time", "1s"),),
    "safe-on": ((),),
    "status": ((),),
    "token add": (("scraper",),),
    "token list": ((),),
    "user list": ((),),
    "verify": ((),),
    "watch": (("--dry-run",),),
    "why": ((IMAGE,), ("cam-1",)),
}
"""What each command with --json is called with, in the order in which they run."""
ORDER = ("device add", "device list", "device rotate", "device revoke", "device remove", "hold")
"""These come first, one after the other."""
LISTS = {
    "audit", "device add", "device list", "device rotate", "find", "hold", "list", "runs",
    "token list", "user list",
}  # fmt: skip
"""Commands that print an array."""
BY_DATA = {"tags", "trouble"}
"""Members whose names are data."""
BY_KEY = {"config show", "dashboard cloudwatch", "discard", "retry"}
"""Commands that answer by the names of settings or images, or with a document of AWS."""
SLOW = ("check", "config check", "cron install", "dashboard cloudwatch", "doctor", "drain",
        "safe-off", "safe-on", "user list", "verify", "watch", "alert list")  # fmt: skip
"""What looks at the machine or at servers; and what would keep the next one waiting."""
TIMES = {"since", "until", "at", "silenced_until", "told_at"}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dialect")


@pytest.fixture
def site(place: Path) -> Iterator[Spool]:
    """A spool with an image in each state that a run leaves."""
    (place / "headgate.toml").write_text(
        '[spool]\nkeep_free = "1MB"\n[receiver]\nbind = "127.0.0.1:1"\n'
        '[s3]\nbucket = "pictures"\nendpoint_url = "http://127.0.0.1:1"\nregion = "eu-central-1"\n'
        '[alerts]\nslack_webhook = "http://127.0.0.1:1/hook"\n'
    )
    with closing(Spool.open(load(str(place / "headgate.toml"), environment={}))) as spool:
        yield spool


def documents(value: Any) -> Iterator[tuple[str, Any]]:
    """Every member of a document, with its name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from () if name in BY_DATA else documents(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from documents(inner)


def faults(value: Any, *, named: bool = True) -> list[str]:
    """What in a document is not of the dialect; ``named``: its names are ours."""
    found = []
    for name, inner in documents(value):
        if named and NAME.fullmatch(name) is None:
            found.append(f"the name {name}")
        is_time = name in TIMES or name.endswith("_at")
        for one in inner if isinstance(inner, list) else [inner]:
            if (
                is_time
                and one is not None
                and not (isinstance(one, str) and INSTANT.fullmatch(one))
            ) or (isinstance(one, str) and _is_instant(one) and INSTANT.fullmatch(one) is None):
                found.append(f"{name} is {one!r}")
    return found


def _is_instant(text: str) -> bool:
    if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text) is None:
        return False
    try:
        datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return False
    return True


def is_problem(value: Any) -> bool:
    return isinstance(value, dict) and {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "retry",
    } <= set(value)


def with_json() -> dict[str, click.Command]:
    """Every command that takes --json, hidden ones left out."""
    found = {}
    context = click.Context(headgate, info_name="headgate")
    for word in COMMANDS:
        command = headgate.get_command(context, word)
        inner = getattr(command, "commands", None)
        for name, part in (
            {f"{word} {n}": p for n, p in inner.items()} if inner else {word: command}
        ).items():
            assert part is not None
            if not part.hidden and any("--json" in param.opts for param in part.params):
                found[name] = part
    return found


def call(place: Path, *words: str) -> Result:
    config = str(place / "headgate.toml")
    return CliRunner().invoke(headgate, ["--config", config, *words], prog_name="headgate")


def test_every_command_with_json_is_in_the_table() -> None:
    assert set(CALLS) == set(with_json())


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([name for name in CALLS if name not in SLOW], id="quick"),
        pytest.param(["device add", *SLOW], id="slow", marks=pytest.mark.slow),
    ],
)
def test_every_command_speaks_it(site: Spool, place: Path, names: list[str]) -> None:
    for number in (1, 3):
        put(
            site,
            b"image %d of %d" % (number, len(names)),
            "cam-1",
            sequence=number,
            tags={"Site-A": "x"},
        )
    put(
        site,
        b"another %d" % len(names),
        "cam-2",
        captured_at=rfc3339(utc_now() - timedelta(minutes=1)),
    )
    aside = put(site, b"set aside %d" % len(names), "cam-1").receipt.id
    item = site.catalog.get(aside)
    assert item is not None
    with site.hold_drain_lock("a test", 0) as lock:
        Mover(site, lock).set_aside(item, "AccessDenied", site.now())
    upload_all(site)
    put(site, b"waits", "cam-1")
    (place / "card").mkdir(exist_ok=True)
    wrong, answered = [], set()
    first = [name for name in ORDER if name in names]
    for name in [*first, *(name for name in names if name not in first)]:
        for arguments in CALLS[name]:
            words = [aside if word == IMAGE else word.replace("<a folder>", str(place / "card"))
                     for word in arguments]  # fmt: skip
            ran = call(place, *name.split(), *words, "--json")
            what = f"{name} {' '.join(arguments)}"
            text = ran.stdout or ran.stderr
            try:
                said = json.loads(text)
            except ValueError:
                wrong.append(f"{what} ends with {ran.exit_code}, and says {text!r}")
                continue
            wrong += [f"{what}: {fault}" for fault in faults(said, named=name not in BY_KEY)]
            if ran.stdout:
                answered.add(name)
                if isinstance(said, dict) == (name in LISTS):
                    wrong.append(f"{what} is a {type(said).__name__}")
            elif not (ran.exit_code and is_problem(said)):
                wrong.append(f"{what} ends with {ran.exit_code}, and says {text!r}")
    assert not wrong, "\n".join(wrong)
    assert set(names) - answered <= {
        "alert test",
        "cron install",
        "fleet status",
        "get",
        "purge",
    }, "these only failed"


def test_every_command_says_what_is_wrong_in_the_object_of_http(site: Spool, place: Path) -> None:
    for name, command in with_json().items():
        ran = call(place, *name.split(), "--json", "--no-such-flag")
        said = json.loads(ran.stderr)
        assert is_problem(said) and ran.stdout == "", name
        assert (ran.exit_code, said["exit_code"], said["status"], said["code"]) == (
            2, 2, 400, "usage",
        ), name  # fmt: skip
        assert "no-such-flag" in said["detail"], command
    ran = call(place, "--set", "uplink.share=much", "status", "--json")
    said = json.loads(ran.stderr)
    assert (
        ran.exit_code == 2
        and "uplink.share" in said["faults"][0]
        and said["faults"][0] in said["detail"]
    )
    ran = call(place, "--set", f"spool.path={place / 'none'}", "status", "--json")
    said = json.loads(ran.stderr)
    assert (ran.exit_code, said["status"]) == (1, 500) and "there is no spool" in said["detail"]
    assert call(place, "--set", f"spool.path={place / 'none'}", "status").stderr.startswith(
        "headgate: "
    )


@pytest.mark.parametrize(
    "words",
    [
        "get NOPE",
        "why NOPE",
        "hold NOPE",
        "release NOPE",
        "purge --image NOPE --dry-run",
        "purge --device NOPE --dry-run",
        "reupload --device NOPE",
        "find --by capture --cursor NOPE",
        "device gaps NOPE",
        "device gaps NOPE --accept 1",
        "device label NOPE door",
        "device remove NOPE",
        "device rename NOPE cam-3",
        "device revoke NOPE",
        "device rotate NOPE",
        "alert silence paused --off",
    ],
)
def test_a_name_that_nothing_has_is_not_found_as_over_http(
    site: Spool, place: Path, words: str
) -> None:
    asked = create_app(site).test_client().get("/images/NOPE").get_json()
    ran = call(place, *words.split(), "--json")
    said = json.loads(ran.stderr)
    assert (said["status"], said["title"], said["retry"]) == (asked["status"], "Not Found", False)
    assert (said["code"], ran.exit_code, said["exit_code"]) == ("not_found", 1, 1)


def test_every_json_address_speaks_it_and_one_thing_has_one_form(site: Spool, place: Path) -> None:
    image = put(site, b"over http", "cam-5", sequence=1).receipt
    put(site, b"over http, too", "cam-5", sequence=4)
    app = create_app(site)
    client = app.test_client()
    job = client.post("/jobs/drain", json={}).get_json()["id"]
    parts = {"ref": image.id, "device": "cam-5", "job": job, "code": "disk_full"}
    seen = set()
    for rule in app.url_map.iter_rules():
        if (
            "GET" not in (rule.methods or ())
            or rule.endpoint == "static"
            or rule.rule == "/openapi.json"
        ):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: parts[found[1]], rule.rule)
        answer = client.get(path)
        answer.close()
        if not answer.mimetype.endswith("json"):
            continue
        said = answer.get_json()
        assert isinstance(said, dict) and faults(said) == [], path
        assert answer.status_code < 400 or (
            answer.mimetype == "application/problem+json" and is_problem(said)
        )
        seen.add(rule.rule)
    assert {
        "/status.json",
        "/images/<ref>",
        "/devices/<device>/gaps",
        "/jobs/<job>",
        "/limits",
    } <= seen
    there = client.get(f"/images/{image.id}").get_json()
    (here,) = json.loads(
        call(place, "find", "--device", "cam-5", "--sequence", "1", "--json").stdout
    )
    assert {name: here[name] for name in there} == there
    gaps = client.get("/devices/cam-5/gaps").get_json()
    said = json.loads(call(place, "device", "gaps", "cam-5", "--json").stdout)
    assert {name: said[name] for name in gaps} == gaps
    page = set(client.get("/status.json").get_json())
    assert page <= set(json.loads(call(place, "status", "--json").stdout))
