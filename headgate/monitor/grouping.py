"""Alerts sorted by gravity and grouped by what is wrong: "18 devices miss images". Pure.

Slack, mail, the page and ``headgate check`` all group here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from headgate.monitor.rules import BY_CODE, AlertRule, Level
from headgate.spool.image.names import device_shown
from headgate.spool.site.alerts import Alert

NAMED = 5
"""How many of a group are named; the others are counted."""
_ORDER = tuple(Level)
_UNKNOWN = AlertRule("", Level.WARN, "Something is wrong", "", "")
"""For an alert that another version remembered and this one does not have."""


class Wrong(Protocol):
    """One thing that is wrong, remembered or just found."""

    @property
    def code(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def sentence(self) -> str: ...


W = TypeVar("W", bound=Wrong)


@dataclass(frozen=True, slots=True)
class AlertGroup(Generic[W]):
    """Everything that is wrong by one rule."""

    rule: AlertRule
    members: tuple[W, ...]

    @property
    def code(self) -> str:
        return self.members[0].code

    @property
    def level(self) -> Level:
        return self.rule.level

    @property
    def subjects(self) -> tuple[str, ...]:
        """The devices, channels or refusals that are meant; none where there is but one thing."""
        return tuple(device_shown(one.subject) for one in self.members if one.subject)

    @property
    def title(self) -> str:
        """What is wrong, with the subject or the number of them."""
        return title(self.rule, self.subjects)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each of the first few, and how many more there are."""
        said = tuple(one.sentence for one in self.members[:NAMED])
        more = len(self.members) - NAMED
        return (*said, f"And {more:,} more.") if more > 0 else said


def title(rule: AlertRule, subjects: Sequence[str]) -> str:
    """The rule's title for these subjects: of one its name, of more their number."""
    if not subjects:
        return rule.title
    if len(subjects) == 1:
        return f"{rule.title}: {subjects[0]}"
    return rule.many.format(n=f"{len(subjects):,}") if rule.many else rule.title


def named(subjects: Sequence[str]) -> str:
    """The first few by name, and how many more there are."""
    more = len(subjects) - NAMED
    return ", ".join(subjects[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def grouped(wrong: Iterable[W], rules: Mapping[str, AlertRule] = BY_CODE) -> list[AlertGroup[W]]:
    """By rule, the most serious first; of one level in the order of the rules, of one rule in the
    order in which they come."""
    by_code: dict[str, list[W]] = {}
    for one in wrong:
        by_code.setdefault(one.code, []).append(one)
    place = {code: number for number, code in enumerate(rules)}
    groups = [AlertGroup(rules.get(code, _UNKNOWN), tuple(all)) for code, all in by_code.items()]
    return sorted(
        groups, key=lambda one: (-_ORDER.index(one.level), place.get(one.code, len(place)))
    )


def worst(groups: Iterable[AlertGroup[Alert]]) -> Level:
    """The highest level of them; ``OK`` without one."""
    return max((one.level for one in groups), key=_ORDER.index, default=Level.OK)


def help_of(code: str) -> str:
    """The receiver's page that says what the alert means and what to do."""
    return f"/help/{code}"


def alert_fields(alert: Alert) -> dict[str, object]:
    """For programs: as ``headgate check``, ``headgate status`` and the page give an alert."""
    rule = BY_CODE.get(alert.code, _UNKNOWN)
    return alert.fields() | {
        "level": rule.level,
        "title": rule.title,
        "help": help_of(alert.code),
    }


def group_fields(group: AlertGroup[Alert]) -> dict[str, object]:
    """For programs: one group, with all its subjects."""
    return {
        "code": group.code,
        "level": group.level,
        "title": group.title,
        "subjects": list(group.subjects),
        "sentences": [one.sentence for one in group.members],
        "since": since(group),
        "mend": group.members[0].fix,
        "help": help_of(group.code),
    }


def since(group: AlertGroup[Alert]) -> datetime:
    """When the first of them began."""
    return min(one.began_at for one in group.members)
