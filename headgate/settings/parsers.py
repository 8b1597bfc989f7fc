"""What settings are read by: from text as people write it to a value, or a sentence. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from headgate.settings import intake, timetable, units
from headgate.settings.logins import without_login
from headgate.settings.units import UnitError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reader(Generic[_T]):
    """Reads a value as it was written (UnitError if it cannot be used); ``takes`` says to people
    what it takes."""

    read: Callable[[Any], _T]
    takes: str

    def __call__(self, value: Any) -> _T:
        return self.read(value)


def taking(takes: str) -> Callable[[Callable[[Any], _T]], Reader[_T]]:
    return lambda read: Reader(read, takes)


def plain(value: Any) -> str:
    if not isinstance(value, str):
        raise UnitError(f"{value!r} must be text in quotes")
    if "\n" in value or "\r" in value or "\0" in value:
        raise UnitError("a line break is not allowed here")
    return value


TEXT = Reader(plain, "text")


@taking("a folder")
def folder(value: Any) -> Path:
    if not (text := plain(value)):
        raise UnitError("name a folder")  # the working folder, said by no one, is no place for it
    return Path(text)


_FORMS: Mapping[Callable[[str], object], str] = {
    units.parse_size: "a size, such as `500MB` or `20MiB`",
    units.parse_rate: "a rate, such as `40MB/s`, `12000MB/min` or `100Mbit/s`",
    units.parse_percent: "a share, 0% to 100%",
    units.parse_room: "a size, or a share of the disk",
}


def of(parse: Callable[[str], _T], empty: _T | None = None) -> Reader[_T]:
    def read(value: Any) -> _T:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)  # the unit parsers say what is missing from a bare number
        text = plain(value)
        if not text and empty is not None:
            return empty
        return parse(text)

    return Reader(read, parse.takes if isinstance(parse, Reader) else _FORMS[parse])


def matching(pattern: str, what: str) -> Reader[str]:
    def read(value: Any) -> str:
        text = plain(value)
        if not re.fullmatch(pattern, text, re.ASCII):
            raise UnitError(f"{without_login(text)!r} is not {what}")
        return text

    return Reader(read, what)


def url(pattern: str, what: str) -> Reader[str]:
    """Like ``matching``, without a user and a password: settings that are no secrets are shown."""
    matches = matching(pattern, what)

    def read(value: Any) -> str:
        text = matches(value)
        if (shown := without_login(text)) != text:
            raise UnitError(
                f"{shown!r} contains a user or a password, which is never sent to a server; "
                "remove the part before the @"
            )
        return text

    return Reader(read, what)


def choice(*words: str) -> Reader[str]:
    def read(value: Any) -> str:
        text = plain(value)
        if text not in words:
            raise UnitError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return Reader(read, ", ".join(f"`{word}`" if word else "empty" for word in words))


def number(low: int, high: int) -> Reader[int]:
    def read(value: Any) -> int:
        try:
            number = int(value) if not isinstance(value, bool | float) else None
        except (TypeError, ValueError):
            number = None
        if number is None or not low <= number <= high:
            raise UnitError(f"{value!r} is not a whole number from {low} to {high}")
        return number

    return Reader(read, f"a whole number from {low:,} to {high:,}")


def auto_or_number(high: int) -> Reader[int | Literal["auto"]]:
    def read(value: Any) -> int | Literal["auto"]:
        return "auto" if value == "auto" else number(1, high)(value)

    return Reader(read, f"`auto`, or a whole number from 1 to {high}")


def several(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise UnitError(f'{value!r} must be a list, such as ["a", "b"]')
    return tuple(plain(part) for part in value)


@taking('a list of "days hours share"; `;` between them in a variable')
def hours(value: Any) -> tuple[timetable.TimetableEntry, ...]:
    if isinstance(value, str):  # a variable or a flag: a comma belongs to the days
        value = [part.strip() for part in value.split(";") if part.strip()]
    return timetable.parse(several(value))


@taking("a list of networks")
def networks(value: Any) -> tuple[str, ...]:
    for part in (parts := several(value)):
        try:
            ipaddress.ip_network(part)
        except ValueError as error:
            raise UnitError(f'{part!r} is not a network like "192.168.10.0/24": {error}') from error
    return parts


@taking("a list of host names")
def host_names(value: Any) -> tuple[str, ...]:
    for part in (parts := several(value)):
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", part):
            raise UnitError(
                f'{part!r} is not a host name like "gateway.site.example", without a port'
            )
    return tuple(part.lower() for part in parts)


@taking("a list of folders")
def intake_folders(value: Any) -> tuple[intake.IntakeFolder, ...]:
    return tuple(intake.folder(part) for part in several(value))


@taking("a list of form fields' names, with `*` for any text; the first one without")
def fields(value: Any) -> tuple[str, ...]:
    for part in (parts := several(value)):
        if not re.fullmatch(r"[^\s\"\\]{1,64}", part):
            raise UnitError(f"{part!r} is not a form field's name")
    if not parts or set(parts[0]) & set("*?["):
        raise UnitError("the first one must be a name without `*`: GET /limits reports it")
    return parts


@taking("a list of addresses that begin with a slash")
def paths(value: Any) -> tuple[str, ...]:
    for part in (parts := several(value)):
        if not re.fullmatch(r"/[A-Za-z0-9._~/-]{1,200}", part, re.ASCII):
            raise UnitError(f"{part!r} is not an address like /api/v1/snapshot")
    return parts


@taking("a range of ports, or nothing")
def ports(value: Any) -> tuple[int, ...]:
    if not plain(value):
        return ()
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", plain(value), re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
        raise UnitError(f"{value!r} is not a range of ports like 50000-50099")
    return tuple(range(int(found[1]), int(found[2]) + 1))


@taking("an address and a port")
def bind(value: Any) -> str:
    text = plain(value)
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise UnitError(f'{text!r} is not an address and port like "127.0.0.1:8080"')
    return text


def positive(parse: Callable[[str], _T], low: int, shown: str) -> Reader[_T]:
    def read(text: str) -> _T:
        value = parse(text)
        if isinstance(value, int) and value < low:
            raise UnitError(f"{text!r} is too small; at least {shown}")
        return value

    takes = parse.takes if isinstance(parse, Reader) else _FORMS[parse]
    return Reader(read, f"{takes}, at least {shown}")


@taking("a duration, such as `90s`, `5min`, `36h` or `2d`; at most 3650d")
def span(text: str) -> int:
    seconds = units.parse_duration(text)
    if seconds > 3650 * 86400:
        raise UnitError(f"{text!r} is too long; at most 3650d")
    return seconds


@taking("whole minutes, from `1min` to `1d`")
def interval(text: str) -> int:
    seconds = units.parse_duration(text)
    if not 60 <= seconds <= 86400 or seconds % 60:
        raise UnitError(f"{text!r} must be whole minutes, from 1min to 1d")
    return seconds


@taking("a rate, such as `12000MB/min` or `100Mbit/s`, from 1kB/s to 1TB/s")
def link(text: str) -> int:
    rate = units.parse_rate(text)
    if rate < 1000:
        raise UnitError(f"{text!r} is less than 1kB/s")
    if rate > 10**12:
        raise UnitError(f"{text!r} is too much; at most 1TB/s")
    return rate


@taking("`true` or `false`")
def true_or_false(value: Any) -> bool:
    word = str(value).lower()
    if word in ("true", "false"):
        return word == "true"
    raise UnitError(f"{value!r} is neither true nor false")


@taking('a list of "name=value", ten at most')
def tags(value: Any) -> tuple[str, ...]:
    """As S3 takes them: ten at most, each name once (Amazon S3 User Guide, "Object tags")."""
    tags = several(value)
    for tag in tags:
        if not re.fullmatch(r"[\w .:/+@-]{1,128}=[\w .:/=+@-]{0,256}", tag):
            raise UnitError(f'{tag!r} is not a tag like "team=traffic"')
    if len(tags) > 10 or len({tag.partition("=")[0] for tag in tags}) < len(tags):
        raise UnitError("at most ten tags, each name once")
    return tags


@taking("at most 256 bytes, no leading slash, no spaces")
def prefix(value: Any) -> str:
    text = plain(value)
    if text.startswith("/") or any(part.isspace() for part in text):
        raise UnitError(f"{text!r} is not a key prefix: no leading slash, no spaces")
    if len(text.encode()) > 256:  # so that every key keeps within S3's 1,024 bytes
        raise UnitError(f"{text!r} is longer than 256 bytes")
    return text


@taking("`auto`, `never`, or a duration of at least 1min")
def silent(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text == "never":
        return 0
    seconds = span(text)
    if seconds < 60:
        raise UnitError(f"{text!r} is too short; at least 1min, or auto, or never")
    return seconds


ADDRESS = r"[^\s@<>,;\"]+@[^\s@<>,;\"]+"


@taking("a list of mail addresses")
def addresses(value: Any) -> tuple[str, ...]:
    for part in (parts := several(value)):
        if not re.fullmatch(ADDRESS, part, re.ASCII):
            raise UnitError(f'{part!r} is not an address like "ops@example.net"')
    return parts


def secret(pattern: str, what: str) -> Reader[str]:
    """Like ``matching``, but the sentence never shows the value."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise UnitError(f"it is not {what} (the value is a secret, and not shown)")
        return value

    return Reader(read, what)


def services(value: Any) -> tuple[str, ...]:
    """Addresses as Apprise has them; never shown, for they hold tokens."""
    parts = tuple(value.split()) if isinstance(value, str) else tuple(several(value))
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s]+", part) for part in parts):
        raise UnitError(
            'they are not all addresses like "tgram://token/chat" (the value is a secret, and not '
            "shown)"
        )
    return parts


BROKER_URL = (
    r"((redis|rediss)://[^\s/]+(/[0-9]*)?(\?[^\s]*)?|(https?|sqs)://[^\s/]+/[^\s/]+/[^\s/]+)?"
)
REDIS_URL = r"((redis|rediss)://[^\s/]+(/[0-9]*)?(\?[^\s]*)?|unix:///[^\s]+)?"
_SENTINEL = r"[^\s/@,:]+(:[0-9]{1,5})?"
_SENTINELS = rf"sentinel://([^\s/@]+@)?{_SENTINEL}(,{_SENTINEL})*/[\w.-]+(/[0-9]*)?"
SHARED_URL = rf"({REDIS_URL}|{_SENTINELS})"
KEYS = r"https?://[^\s]+|[^\s:][^:]*"
URL = r"(https?://[^\s/]+(/[^\s]*)?)?"
SMTP_URL = r"(smtps?://([^\s/@]+@)?[^\s/@:]+(:[0-9]{1,5})?/?)?"
