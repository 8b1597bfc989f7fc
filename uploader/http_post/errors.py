"""What an answer to a posted image means for the run: one table. Pure.

Statuses are those of RFC 9110. A Headgate says more in a problem document (RFC 9457): ``code``, and
``retry``: whether the same request may be taken later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uploader.wire.errors import ErrorKind, SendError


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """What one status, or one problem code, means; a row of the table. In ``sentence``,
    {host}, {status} and {said} are filled in. ``refusal``, ``unknown``, ``slow_down``, ``rehash``
    and ``passing`` are ``SendError``'s."""

    kind: ErrorKind
    sentence: str
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    refusal: bool = True
    unknown: bool = False
    rehash: bool = False
    slow_down: bool = False
    passing: bool = False


RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        ErrorKind.TRANSIENT,
        "{host} got other bytes than those promised; the file is hashed again.",
        frozenset({"digest_mismatch", "short_body"}),
        rehash=True,
    ),
    AnswerRule(
        ErrorKind.FATAL,
        "{host} refuses these credentials ({status}){said}; correct destination.token: a gateway's "
        "is made there by `headgate device add NAME --forward`.",
        frozenset({"unauthorized", "forbidden", "wrong_device"}),
        frozenset({401, 403}),
    ),
    AnswerRule(
        ErrorKind.FATAL,
        "{host} takes no uploads at this address ({status}){said}; correct destination.url.",
        frozenset({"not_found", "method_not_allowed", "wrong_field", "no_image"}),
        frozenset({404, 405, 410, 501}),
    ),
    AnswerRule(
        ErrorKind.FATAL,
        "{host} sends uploads elsewhere ({status}){said}: set destination.url to that address if "
        "it is the right one. Nothing was sent there.",
        statuses=frozenset({300, 301, 302, 303, 307, 308}),
    ),
    AnswerRule(
        ErrorKind.FATAL,
        "The proxy wants another name and password (407); correct HTTP_PROXY.",
        statuses=frozenset({407}),
    ),
    AnswerRule(
        ErrorKind.TRANSIENT,
        "{host} asks for fewer requests ({status}){said}; it is tried again later.",
        frozenset({"too_many_requests", "too_many_at_once", "intake_spent", "stopping"}),
        frozenset({429, 503}),
        refusal=False,
        slow_down=True,
        passing=True,
    ),
    AnswerRule(
        ErrorKind.TRANSIENT,
        "{host} has no room for images ({status}){said}; it is tried again later.",
        frozenset({"disk_full", "disk_trouble"}),
        frozenset({402, 507}),
    ),
    AnswerRule(
        ErrorKind.TRANSIENT,
        "{host} gave up waiting for the rest of the request{said}; it is tried again later.",
        frozenset({"too_slow"}),
        frozenset({408}),
        refusal=False,
        passing=True,
    ),
    AnswerRule(
        ErrorKind.TRANSIENT,
        "{host} had trouble of its own ({status}){said}; it is tried again later.",
        frozenset({"internal"}),
        frozenset({500, 502, 504}),
        refusal=False,
        unknown=True,  # it may come after the image was stored
        passing=True,
    ),
    AnswerRule(
        ErrorKind.TRANSIENT,
        "{host} says that it has this image, or another under its name ({status}){said}.",
        frozenset({"key_conflict"}),
        frozenset({409, 412}),
        unknown=True,
    ),
    AnswerRule(
        ErrorKind.PERMANENT,
        "{host} refuses this image ({status}){said}.",
        statuses=frozenset({400, 411, 413, 414, 415, 416, 417, 422, 431}),
    ),
)
"""The first row that fits: by the problem's code, else by the status."""

_OTHERWISE = AnswerRule(
    ErrorKind.TRANSIENT,
    "{host} gave an answer that Headgate does not know ({status}){said}; it is tried again later.",
    unknown=True,
)


def rule_for(status: int, code: str) -> AnswerRule:
    """The rule that applies to an answer."""
    for rule in RULES:
        if code and code in rule.codes:
            return rule
    return next((rule for rule in RULES if status in rule.statuses), _OTHERWISE)


def classify(host: str, status: int, problem: Mapping[str, Any], said: str) -> SendError:
    """The error that an answer other than success stands for. ``said``: the server's own words."""
    code = str(problem.get("code", ""))
    rule = rule_for(status, code)
    kind = rule.kind
    if kind is ErrorKind.PERMANENT and problem.get("retry") is True:
        kind = ErrorKind.TRANSIENT
    said = f': "{said}"' if said else ""
    return SendError(
        kind,
        code or str(status),
        rule.sentence.format(host=host, status=status, said=said),
        unknown=rule.unknown,
        rehash=rule.rehash,
        refusal=rule.refusal,
        slow_down=rule.slow_down,
        passing=rule.passing,
    )
