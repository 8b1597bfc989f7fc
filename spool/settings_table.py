"""The table of all settings: it makes the file, the variables and the docs. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spool import timetable, units
from spool.units import Percent, UnitError

Value = str | int | bool | Path | Percent | tuple[str, ...] | tuple[timetable.Entry, ...] | None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads a value as it was written (UnitError if it cannot be used); ``takes`` says to people
    what it takes."""

    read: Callable[[Any], Value]
    takes: str

    def __call__(self, value: Any) -> Value:
        return self.read(value)


def _taking(takes: str) -> Callable[[Callable[[Any], Value]], Reader]:
    return lambda read: Reader(read, takes)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. ``unit`` is what the parsed value is counted in; ``example`` is shown
    where the default says little."""

    section: str
    key: str
    default: Any
    parse: Callable[[Any], Value]
    unit: str
    help: str
    secret: bool = False
    example: Any = None

    @property
    def takes(self) -> str:
        """What it takes, in words."""
        return getattr(self.parse, "takes", "")

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        return f"HEADGATE_{self.section}_{self.key}".upper()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnitError(f"{value!r} must be text in quotes")
    if "\n" in value or "\r" in value or "\0" in value:
        raise UnitError("a line break is not allowed here")
    return value


_TEXT = Reader(_text, "text")


@_taking("a folder")
def _folder(value: Any) -> Path:
    if not (text := _text(value)):
        raise UnitError("name a folder")  # the working folder, said by nobody, is no place for it
    return Path(text)


_FORMS: Mapping[Callable[[str], Value], str] = {
    units.parse_size: "a size, as `500MB` or `20MiB`",
    units.parse_rate: "a rate, as `40MB/s`, `12000MB/min` or `100Mbit/s`",
    units.parse_percent: "a share, 0% to 100%",
    units.parse_room: "a size, or a share of the disk",
}


def _of(parse: Callable[[str], Value], empty: Value | None = None) -> Reader:
    def read(value: Any) -> Value:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)  # the unit parsers say what is missing from a bare number
        text = _text(value)
        if not text and empty is not None:
            return empty
        return parse(text)

    return Reader(read, parse.takes if isinstance(parse, Reader) else _FORMS[parse])


def _matching(pattern: str, what: str) -> Reader:
    def read(value: Any) -> str:
        text = _text(value)
        if not re.fullmatch(pattern, text, re.ASCII):
            raise UnitError(f"{text!r} is not {what}")
        return text

    return Reader(read, what)


def _choice(*words: str) -> Reader:
    def read(value: Any) -> str:
        text = _text(value)
        if text not in words:
            raise UnitError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return Reader(read, ", ".join(f"`{word}`" if word else "empty" for word in words))


def _number(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        try:
            number = int(value) if not isinstance(value, bool | float) else None
        except (TypeError, ValueError):
            number = None
        if number is None or not low <= number <= high:
            raise UnitError(f"{value!r} is not a whole number from {low} to {high}")
        return number

    return Reader(read, f"a whole number from {low:,} to {high:,}")


@_taking("`auto`, or a whole number from 1 to 256")
def _auto_or_number(value: Any) -> Value:
    return "auto" if value == "auto" else _number(1, 256)(value)


def _list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise UnitError(f'{value!r} must be a list, as in ["a", "b"]')
    return tuple(_text(part) for part in value)


@_taking('a list of "days hours share"; `;` between them in a variable')
def _timetable(value: Any) -> tuple[timetable.Entry, ...]:
    if isinstance(value, str):  # a variable or a flag: a comma belongs to the days
        value = [part.strip() for part in value.split(";") if part.strip()]
    return timetable.parse(_list(value))


@_taking("a list of networks")
def _networks(value: Any) -> tuple[str, ...]:
    for part in (parts := _list(value)):
        try:
            ipaddress.ip_network(part)
        except ValueError as error:
            raise UnitError(f'{part!r} is not a network like "192.168.10.0/24": {error}') from error
    return parts


@_taking("an address and a port")
def _bind(value: Any) -> str:
    text = _text(value)
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise UnitError(f'{text!r} is not an address and port like "127.0.0.1:8080"')
    return text


def _positive(parse: Callable[[str], Value], low: int, shown: str) -> Reader:
    def read(text: str) -> Value:
        value = parse(text)
        if isinstance(value, int) and value < low:
            raise UnitError(f"{text!r} is too small; at least {shown}")
        return value

    takes = parse.takes if isinstance(parse, Reader) else _FORMS[parse]
    return Reader(read, f"{takes}, at least {shown}")


@_taking("a duration, as `90s`, `5min`, `36h` or `2d`; at most 3650d")
def _span(text: str) -> int:
    seconds = units.parse_duration(text)
    if seconds > 3650 * 86400:
        raise UnitError(f"{text!r} is too long; at most 3650d")
    return seconds


@_taking("whole minutes, from `1min` to `1d`")
def _interval(text: str) -> int:
    seconds = units.parse_duration(text)
    if not 60 <= seconds <= 86400 or seconds % 60:
        raise UnitError(f"{text!r} must be whole minutes, from 1min to 1d")
    return seconds


@_taking("a rate, as `12000MB/min` or `100Mbit/s`, from 1kB/s to 1TB/s")
def _link(text: str) -> int:
    rate = units.parse_rate(text)
    if rate < 1000:
        raise UnitError(f"{text!r} is less than 1kB/s")
    if rate > 10**12:
        raise UnitError(f"{text!r} is too much; at most 1TB/s")
    return rate


@_taking("`true` or `false`")
def _true_or_false(value: Any) -> bool:
    word = str(value).lower()
    if word in ("true", "false"):
        return word == "true"
    raise UnitError(f"{value!r} is neither true nor false")


@_taking('a list of "name=value", ten at most')
def _tags(value: Any) -> tuple[str, ...]:
    """As S3 takes them: ten at most, each name once (Amazon S3 User Guide, "Object tags")."""
    tags = _list(value)
    for tag in tags:
        if not re.fullmatch(r"[\w .:/+@-]{1,128}=[\w .:/=+@-]{0,256}", tag):
            raise UnitError(f'{tag!r} is not a tag like "team=traffic"')
    if len(tags) > 10 or len({tag.partition("=")[0] for tag in tags}) < len(tags):
        raise UnitError("at most ten tags, each name once")
    return tags


@_taking("at most 256 bytes, no leading slash, no spaces")
def _prefix(value: Any) -> str:
    text = _text(value)
    if text.startswith("/") or any(part.isspace() for part in text):
        raise UnitError(f"{text!r} is not a key prefix: no leading slash, no spaces")
    if len(text.encode()) > 256:  # so that every key keeps within S3's 1,024 bytes
        raise UnitError(f"{text!r} is longer than 256 bytes")
    return text


@_taking("`auto`, `never`, or a duration of at least 1min")
def _silent(text: str) -> Value:
    if text in ("auto", "never"):
        return text if text == "auto" else 0
    seconds = _span(text)
    if isinstance(seconds, int) and seconds < 60:
        raise UnitError(f"{text!r} is too short; at least 1min, or auto, or never")
    return seconds


_ADDRESS = r"[^\s@<>,;\"]+@[^\s@<>,;\"]+"


@_taking("a list of mail addresses")
def _addresses(value: Any) -> tuple[str, ...]:
    for part in (parts := _list(value)):
        if not re.fullmatch(_ADDRESS, part, re.ASCII):
            raise UnitError(f'{part!r} is not an address like "ops@example.net"')
    return parts


def _secret(pattern: str, what: str) -> Reader:
    """Like ``_matching``, but the sentence never shows the value."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise UnitError(f"it is not {what} (the value is a secret, and not shown)")
        return value

    return Reader(read, what)


def _services(value: Any) -> tuple[str, ...]:
    """Addresses as Apprise has them; never shown, for they hold tokens."""
    parts = tuple(value.split()) if isinstance(value, str) else tuple(_list(value))
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s]+", part) for part in parts):
        raise UnitError(
            'they are not all addresses like "tgram://token/chat" (the value is a secret, and not '
            "shown)"
        )
    return parts


_BROKER_URL = (
    r"((redis|rediss)://[^\s/]+(/[0-9]*)?(\?[^\s]*)?|(https?|sqs)://[^\s/]+/[^\s/]+/[^\s/]+)?"
)
_KEYS = r"https?://[^\s]+|[^\s:][^:]*"
_URL = r"(https?://[^\s/]+(/[^\s]*)?)?"
_SMTP_URL = r"(smtps?://([^\s/@]+@)?[^\s/@:]+(:[0-9]{1,5})?/?)?"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "site",
        "name",
        "site",
        _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of letters, digits, . _ and -"),
        "",
        "The site's name: in every key.",
        example="north",
    ),
    Setting(
        "spool",
        "path",
        "var/spool",
        _folder,
        "",
        "The folder that holds every image until it is proved to be in the bucket.",
        example="/var/lib/headgate/spool",
    ),
    Setting(
        "spool",
        "keep_done",
        "1d",
        _of(_span),
        "seconds",
        "How long an uploaded image's local copy stays in done/.",
    ),
    Setting(
        "spool",
        "keep_done_max",
        "10%",
        _of(units.parse_room),
        "bytes, or a share of the disk",
        "The most that done/ may take; the oldest go first.",
    ),
    Setting(
        "spool",
        "keep_free",
        "5%",
        _of(units.parse_room),
        "bytes, or a share of the disk",
        "Free space that uploads never use; below it they are refused with 507.",
    ),
    Setting(
        "spool",
        "keep_receipts",
        "30d",
        _of(_positive(_span, 2 * 86400, "2d")),
        "seconds",
        "How long receipts of uploaded images can be asked for; whole days.",
    ),
    Setting(
        "spool",
        "dedupe",
        "2d",
        _of(_span),
        "seconds",
        "How long after its arrival the same image from the same device counts as already held.",
    ),
    Setting(
        "receiver",
        "bind",
        "127.0.0.1:8080",
        _bind,
        "",
        "Address and port to listen on.",
        example="0.0.0.0:8080",
    ),
    Setting(
        "receiver",
        "max_image",
        "20MiB",
        _of(_positive(units.parse_size, 1024, "1KiB")),
        "bytes",
        "The largest image accepted; a larger one is refused with 413.",
    ),
    Setting(
        "receiver",
        "field",
        "image",
        _matching(r"[^\s\"\\]{1,64}", "a form field's name"),
        "",
        "The name of the multipart field that holds the image.",
    ),
    Setting(
        "receiver",
        "upload_status",
        201,
        _number(200, 201),
        "HTTP status",
        "What a new image is answered with: 201, or 200 for devices that know no other success.",
    ),
    Setting(
        "receiver",
        "auth",
        "auto",
        _choice("auto", "token", "open"),
        "",
        "Who may send: token (each device's own), auto (the same, but a direct loopback peer needs "
        "none) or open (see allow).",
    ),
    Setting(
        "receiver",
        "allow",
        [],
        _networks,
        "",
        'Networks that may send when auth is "open"; empty means any network.',
        example=["192.168.10.0/24"],
    ),
    Setting(
        "receiver",
        "device_rate",
        10,
        _number(0, 10_000),
        "requests a second; 0 for no bound",
        "How often one device may send; more is refused with 429.",
    ),
    Setting(
        "receiver",
        "device_parallel",
        4,
        _number(0, 10_000),
        "requests; 0 for no bound",
        "How many uploads of one device may arrive at once; more are refused with 429.",
    ),
    Setting(
        "receiver",
        "intake",
        "",
        _of(units.parse_rate, empty=0),
        "bytes a second; empty for no bound",
        "What all devices together may send; more is refused with 503.",
        example="20MB/s",
    ),
    Setting(
        "receiver",
        "max_pixels",
        50_000_000,
        _number(1, 10**12),
        "pixels",
        "The largest image by the width and height it declares; a larger one is refused with 422.",
    ),
    Setting(
        "receiver",
        "threads",
        640,
        _number(4, 4096),
        "threads",
        "Requests served at once; a slow client holds one of them.",
    ),
    Setting(
        "uplink",
        "link",
        "12000MB/min",
        _of(_link),
        "bytes a second",
        "What the uplink carries in all.",
    ),
    Setting(
        "uplink",
        "share",
        "20%",
        _of(units.parse_percent),
        "",
        "The share of the link that images may use.",
    ),
    Setting(
        "uplink",
        "timetable",
        [],
        _timetable,
        "",
        'Other shares at certain hours, local time: ["Mon-Fri 08:00-18:00 10%", "Sat,Sun 100%"].',
        example=["Mon-Fri 08:00-18:00 10%", "Sat,Sun 100%"],
    ),
    Setting(
        "uplink",
        "daily",
        "",
        _of(_positive(units.parse_size, 1, "1B"), empty=0),
        "bytes; empty for no bound",
        "The most bytes that leave on one local day of the wall clock.",
        example="500GB",
    ),
    Setting(
        "uplink",
        "interval",
        "5min",
        _of(_interval),
        "seconds",
        "How often cron starts a run; link x share x interval is a run's budget.",
    ),
    Setting(
        "uplink",
        "trigger",
        "cron",
        _choice("cron", "queue"),
        "",
        "What starts the runs: cron, or messages of a job queue that headgate worker takes.",
    ),
    Setting(
        "uplink",
        "order",
        "mixed",
        _choice("mixed", "oldest", "newest"),
        "",
        "Within a device: mixed sends seven newest, then three oldest.",
    ),
    Setting(
        "uplink",
        "parallel",
        "auto",
        _auto_or_number,
        "connections",
        "Connections at once: auto follows rate, latency and size.",
    ),
    Setting(
        "uplink",
        "batch_images",
        0,
        _number(0, 10**9),
        "images; 0 for no bound",
        "The most images that one run sends.",
        example=10000,
    ),
    Setting(
        "uplink",
        "batch_bytes",
        "",
        _of(units.parse_size, empty=0),
        "bytes; empty for no bound",
        "The most bytes of images that one run sends.",
        example="2GB",
    ),
    Setting(
        "s3",
        "bucket",
        "",
        _matching(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", "a bucket's name"),
        "",
        "Where the images go.",
        example="north-pictures",
    ),
    Setting(
        "s3",
        "prefix",
        "",
        _prefix,
        "",
        "What every key begins with; end it with a slash for a folder.",
        example="cameras/",
    ),
    Setting(
        "s3",
        "layout",
        "device",
        _choice("device", "date", "hive"),
        "",
        "Keys: device (site/device/2026/11/23/name), date (site/2026/11/23/16/device/name), hive.",
    ),
    Setting(
        "s3",
        "endpoint_url",
        "",
        _matching(_URL, "a URL like https://s3.example.net"),
        "",
        "An S3-compatible server; empty for AWS.",
        example="https://s3.example.net",
    ),
    Setting(
        "s3",
        "region",
        "",
        _matching(r"([a-z0-9-]{1,32})?", "a region like eu-central-1"),
        "",
        "The bucket's region; empty: as boto3 finds it.",
        example="eu-central-1",
    ),
    Setting(
        "s3",
        "profile",
        "",
        _TEXT,
        "",
        "A profile of the AWS configuration; empty: as boto3 finds its credentials.",
        example="headgate",
    ),
    Setting(
        "s3",
        "addressing",
        "auto",
        _choice("auto", "path", "virtual"),
        "",
        "Where the bucket stands in a URL: path, virtual (in the host's name), or as boto3 has it.",
    ),
    Setting(
        "s3",
        "ca_bundle",
        "",
        _TEXT,
        "",
        "A file of certificates to trust for the server; empty: as boto3 has it.",
        example="/etc/ssl/certs/site-ca.pem",
    ),
    Setting(
        "s3",
        "storage_class",
        "",
        _matching(r"[A-Z_]{0,32}", "a storage class like STANDARD_IA"),
        "",
        "The storage class of each object; empty: the bucket's own.",
        example="STANDARD_IA",
    ),
    Setting(
        "s3",
        "encryption",
        "",
        _choice("", "AES256", "aws:kms", "aws:kms:dsse"),
        "",
        "Encryption by the server: AES256, aws:kms or aws:kms:dsse; empty: the bucket's own.",
        example="aws:kms",
    ),
    Setting(
        "s3",
        "kms_key",
        "",
        _matching(r"[!-~]{0,2048}", "a KMS key's id or ARN"),
        "",
        "The KMS key; empty: the bucket's own, or the account's.",
        example="alias/pictures",
    ),
    Setting(
        "s3",
        "bucket_key",
        False,
        _true_or_false,
        "",
        "Whether KMS is asked through an S3 Bucket Key, at fewer requests.",
        example=True,
    ),
    Setting(
        "s3",
        "tags",
        [],
        _tags,
        "",
        'Tags of each object, as "team=traffic"; needs s3:PutObjectTagging.',
        example=["team=traffic"],
    ),
    Setting(
        "s3",
        "requester_pays",
        False,
        _true_or_false,
        "",
        "Whether to agree to pay for requests, as a bucket with requester pays wants.",
    ),
    Setting(
        "queue",
        "broker",
        "",
        _secret(_BROKER_URL, "redis://host:6379/0, rediss://..., or the URL of an SQS queue"),
        "",
        "Where the messages come from: a Redis server, or an SQS queue by its URL.",
        secret=True,
        example="redis://127.0.0.1:6379/0",
    ),
    Setting(
        "queue",
        "name",
        "",
        _matching(r"[A-Za-z0-9_-]{0,75}", "a queue's name: letters, digits, - and _"),
        "",
        "The queue's name on a Redis server; empty: headgate- and the site's name.",
        example="headgate-north",
    ),
    Setting(
        "queue",
        "floor",
        "1h",
        _of(_interval),
        "seconds",
        'How often cron starts a run all the same when uplink.trigger is "queue".',
    ),
    Setting(
        "jobs",
        "rate",
        6,
        _number(1, 1000),
        "jobs a minute",
        "How many drains POST /jobs/drain takes; more are refused with 429.",
    ),
    Setting(
        "jobs",
        "oidc_audience",
        "",
        _matching(r"[!-~]{0,512}", "an audience like https://north.example.net/jobs/drain"),
        "",
        "The audience of identity tokens that may ask for drains; empty: none may.",
        example="https://north.example.net/jobs/drain",
    ),
    Setting(
        "jobs",
        "oidc_email",
        "",
        _matching(rf"({_ADDRESS})?", 'an address like "name@project.iam.gserviceaccount.com"'),
        "",
        "Whose identity token: the service account's address.",
        example="headgate@project.iam.gserviceaccount.com",
    ),
    Setting(
        "jobs",
        "oidc_issuer",
        "https://accounts.google.com",
        _matching(r"https?://[!-~]{1,500}", "a URL like https://accounts.google.com"),
        "",
        "Who has to have issued the identity token.",
    ),
    Setting(
        "jobs",
        "oidc_keys",
        "https://www.googleapis.com/oauth2/v3/certs",
        _matching(_KEYS, "a URL, or a file's path"),
        "",
        "The issuer's public keys, a JWK set: a URL that headgate watch fetches, or a file.",
    ),
    Setting(
        "metrics",
        "textfile",
        "",
        _matching(r"(.*\.prom)?", "a file that ends in .prom"),
        "",
        "Where each run leaves the metrics for node_exporter's textfile collector; empty: nowhere.",
        example="/var/lib/node_exporter/headgate.prom",
    ),
    Setting(
        "alerts",
        "slack_webhook",
        "",
        _secret(_URL, "an URL like https://hooks.slack.com/services/..."),
        "",
        "An incoming webhook of Slack's that alerts are posted to; empty for none.",
        secret=True,
        example="https://hooks.slack.com/services/...",
    ),
    Setting(
        "alerts",
        "mail_to",
        [],
        _addresses,
        "",
        "Who gets alerts by mail; empty for nobody.",
        example=["ops@example.net"],
    ),
    Setting(
        "alerts",
        "mail_from",
        "",
        _matching(rf"({_ADDRESS})?", 'an address like "headgate@example.net"'),
        "",
        "Who the mail is from; empty: headgate at this machine's name.",
        example="headgate@example.net",
    ),
    Setting(
        "alerts",
        "smtp_url",
        "",
        _secret(_SMTP_URL, "an URL like smtp://user:password@mail.example.net:587, or smtps://"),
        "",
        "The mail server; smtp:// turns to TLS where it is offered, smtps:// begins with it.",
        secret=True,
        example="smtp://user:password@mail.example.net:587",
    ),
    Setting(
        "alerts",
        "apprise",
        [],
        _services,
        "",
        "Other services that get alerts, as addresses of Apprise (headgate[apprise]); with spaces "
        "between them in a variable.",
        secret=True,
        example=["tgram://bottoken/chat"],
    ),
    Setting(
        "alerts",
        "heartbeat_url",
        "",
        _secret(_URL, "an URL like https://hc-ping.com/..."),
        "",
        "Pinged at /start when a run starts and at /<exit code> when it ends; empty for none.",
        secret=True,
        example="https://hc-ping.com/...",
    ),
    Setting(
        "alerts",
        "device_silent",
        "auto",
        _of(_silent),
        "seconds; auto: learnt from each device",
        "After how long a device that sends nothing is told of; or auto, or never.",
        example="6h",
    ),
    Setting(
        "alerts",
        "cloudwatch",
        "off",
        _choice("off", "on"),
        "",
        "Whether each run puts its numbers into Amazon CloudWatch, in s3.region.",
        example="on",
    ),
    Setting(
        "log",
        "file",
        "",
        _TEXT,
        "",
        "Where runs started by cron write their log, a JSON object a line; empty for stderr.",
        example="/var/log/headgate/drain.log",
    ),
)
