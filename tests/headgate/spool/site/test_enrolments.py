"""Devices of one gateway that may send to another: what counts, and what never comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from headgate.spool.site.devices import Devices
from headgate.spool.site.enrolments import Enrolment, NotEnrolments, Taken, TokenHash, merge
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool
from uploader.cli.main import headgate

AT = Clock()()
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[tuple[Spool, Spool]]:
    with ExitStack() as stack:
        made = []
        for name in ("gw1", "gw2"):
            (tmp_path / name).mkdir()
            made.append(stack.enter_context(closing(open_spool(tmp_path / name, clock))))
        yield made[0], made[1]


def carry(one: Spool, other: Spool) -> dict[str, Taken]:
    """As export and import do, through JSON."""
    text = json.dumps([each.encode() for each in one.site.devices.enrolments(one.now())])
    heard = [Enrolment.decode(each) for each in json.loads(text)]
    return other.site.devices.take_over(heard, other.now())


def knows(devices: Devices, secret: str, now: datetime) -> str:
    found = devices.authenticate(secret, now)
    return "" if found is None else found.device


def test_a_token_is_valid_at_both_until_it_is_revoked_at_one(
    pair: tuple[Spool, Spool], clock: Clock
) -> None:
    one, two = pair
    here, there = one.site.devices, two.site.devices
    (first,) = here.add(["cam-1"], clock(), urgent=True)
    here.add(["cam-d"], clock(), digest=True)
    assert carry(one, two) == {"cam-1": Taken.ADDED} and carry(one, two) == {"cam-1": Taken.SAME}
    assert knows(there, first.secret, clock()) == "cam-1"
    credential = there.authenticate(first.secret, clock())
    assert credential is not None and credential.urgent and not credential.may_drain

    clock.advance(seconds=60)
    stale = json.dumps([each.encode() for each in here.enrolments(clock())])
    (second,) = here.rotate(["cam-1"], clock(), MINUTE)
    assert carry(one, two) == {"cam-1": Taken.CHANGED}
    assert {knows(there, each.secret, clock()) for each in (first, second)} == {"cam-1"}
    clock.advance(seconds=61)
    assert [knows(there, each.secret, clock()) for each in (first, second)] == ["", "cam-1"]
    old = [Enrolment.decode(each) for each in json.loads(stale)]
    there.take_over(old, clock())
    assert knows(there, first.secret, clock()) == "", "an older copy ends nothing's end"

    there.revoke(["cam-1"], clock())
    clock.advance(seconds=1)
    assert carry(one, two) == {"cam-1": Taken.SAME}, "a copy does not undo it"
    assert carry(two, one) == {"cam-1": Taken.REVOKED}
    assert knows(here, second.secret, clock()) == ""
    clock.advance(seconds=1)
    (third,) = here.add(["cam-1"], clock())
    assert carry(two, one) == {"cam-1": Taken.SAME} and carry(one, two) == {"cam-1": Taken.CHANGED}
    assert knows(there, third.secret, clock()) == "cam-1"
    there.take_over(old, clock())
    assert knows(there, first.secret, clock()) == knows(there, second.secret, clock()) == ""

    here.change_name("cam-1", "cam-9")
    carry(one, two)
    assert knows(there, third.secret, clock()) == "cam-9"


def test_who_logs_in_by_digest_here_stays_as_it_is(pair: tuple[Spool, Spool], clock: Clock) -> None:
    one, two = pair
    one.site.devices.add(["door"], clock())
    (token,) = two.site.devices.add(["door"], clock(), digest=True)
    clock.advance(seconds=1)
    assert carry(one, two) == {"door": Taken.BY_DIGEST} and carry(two, one) == {}
    assert knows(two.site.devices, token.secret, clock()) == "door"


def minute(most: int = 4) -> st.SearchStrategy[datetime]:
    return st.integers(0, most).map(lambda n: AT + n * MINUTE)


def enrolments() -> st.SearchStrategy[Enrolment]:
    tokens = st.builds(
        TokenHash, st.sampled_from(["a" * 64, "b" * 64]), minute(), st.none() | minute()
    )
    return st.builds(
        lambda added, revoked, found: Enrolment(
            "cam-1", added, revoked, tokens=() if revoked else tuple(found)
        ),
        minute(),
        st.none() | minute(),
        st.lists(tokens, max_size=2, unique_by=lambda token: token.sha256),
    )


@given(enrolments(), enrolments())
def test_a_revocation_counts_in_either_order(one: Enrolment, other: Enrolment) -> None:
    both = merge(one, other), merge(other, one)
    assert both[0].revoked_at == both[1].revoked_at and both[0].added_at == both[1].added_at
    for first, second in ((one, other), (other, one)):
        if first.revoked_at is not None and first.revoked_at >= second.added_at:
            assert merge(first, second).tokens == merge(second, first).tokens == ()
    assert merge(merge(one, other), other) == merge(one, other), "once more changes nothing"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"devices": 3}', '{"devices": [{"name": "cam-1"}]}', "[" * 9999,
     '{"devices": [{"name": "../x", "added_at": "2026-12-01T00:00:00Z", "tokens": []}]}',
     '{"devices": [{"name": "c", "added_at": "soon", "revoked_at": null, "tokens": []}]}'],
)  # fmt: skip
def test_the_commands_carry_devices_and_refuse_other_texts(
    tmp_path: Path, pair: tuple[Spool, Spool], clock: Clock, text: str
) -> None:
    one, two = pair
    (token,) = one.site.devices.add(["cam-1"], clock())
    run = CliRunner()

    def flags(spool: Spool) -> list[str]:
        return ["--set", f"spool.path={spool.path}"]

    told = run.invoke(headgate, [*flags(one), "device", "export"])
    assert told.exit_code == 0 and token.secret not in told.stdout, told.output
    wrong = run.invoke(headgate, [*flags(two), "device", "import"], input=text)
    assert wrong.exit_code == 1 and "not what headgate device export prints" in wrong.output
    right = run.invoke(headgate, [*flags(two), "device", "import"], input=told.stdout)
    assert right.exit_code == 0 and "1 added" in right.output, right.output
    assert knows(two.site.devices, token.secret, clock()) == "cam-1"
    audit = two.site.audit.entries(limit=1)[0]
    assert (audit.action, audit.subject, audit.detail) == ("device.import", "cam-1", "added")


def test_names_and_hashes_are_checked() -> None:
    good = Enrolment("cam-1", AT, None, tokens=(TokenHash("a" * 64, AT, AT + MINUTE),)).encode()
    assert Enrolment.decode(good).encode() == good
    for change in ({"name": "a b"}, {"tokens": [{"sha256": "x"}]}, {"added_at": 3}, {"tokens": 3}):
        with pytest.raises(NotEnrolments):
            Enrolment.decode({**good, **change})
