"""Alerts sorted by gravity and grouped by what is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from headgate.monitor.grouping import grouped, named, since, worst
from headgate.monitor.rules import BY_CODE, RULES, Level
from headgate.spool.image.names import device_name
from headgate.spool.site.alerts import Alert

NOW = datetime(2026, 11, 23, 16, 4, 5, tzinfo=UTC)


def alert(code: str, subject: str = "", minute: int = 0) -> Alert:
    return Alert(code, subject, f"{code} {subject}.", NOW.replace(minute=minute), fix="headgate x")


def test_the_most_serious_come_first_and_one_rule_is_one_group() -> None:
    gaps = [alert("device-gaps", f"cam-{n:02}", minute=n) for n in range(18, 0, -1)]
    found = grouped([*gaps[:9], alert("set-aside"), alert("disk-full"), *gaps[9:], alert("old")])
    assert [one.title for one in found] == [
        "The disk is full",
        "Images were set aside",
        "18 devices miss images",
        "Something is wrong",  # a rule that this version does not have
    ]
    assert worst(found) is Level.BAD and worst([]) is Level.OK
    many = found[2]
    assert many.subjects == tuple(f"cam-{n:02}" for n in range(18, 0, -1))
    assert (len(many.sentences), many.sentences[-1]) == (6, "And 13 more.")
    assert since(many) == NOW.replace(minute=1)
    assert named(many.subjects) == "cam-18, cam-17, cam-16, cam-15, cam-14 and 13 more"


def test_one_of_a_group_is_named_and_a_thousand_are_counted() -> None:
    (one,) = grouped([alert("device-silent", device_name("ä"))])
    assert one.title == "A device is silent: ä" and one.sentences != ()
    (many,) = grouped([alert("device-silent", f"cam-{n}") for n in range(1000)])
    assert many.title == "1,000 devices are silent"


def test_every_rule_whose_sentence_names_a_subject_has_a_title_for_many() -> None:
    for rule in RULES:
        has_subject = re.search(r"\{(device|name|code)\}", rule.sentence) is not None
        assert has_subject == ("{n}" in rule.many), rule.code
    assert BY_CODE["device-gaps"].level is Level.WARN
