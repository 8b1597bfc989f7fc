"""The table of all settings, one dataclass for each section: it makes the file, the variables and
the docs, and mypy compares each value's type with what reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from headgate.settings import parsers as reads
from headgate.settings import units
from headgate.settings.timetable import TimetableEntry
from headgate.settings.units import Percent

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. ``unit`` is what the parsed value is counted in; ``example`` is shown
    where the default says little."""

    section: str
    key: str
    default: Any
    parse: Callable[[Any], Any]
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


def setting(
    default: Any,
    parse: Callable[[Any], _T],
    unit: str,
    help: str,
    *,
    secret: bool = False,
    example: Any = None,
) -> _T:
    """One field of a section: its default as an owner writes it, and what reads that."""
    made: _T = field(
        metadata={
            "default": default,
            "parse": parse,
            "unit": unit,
            "help": help,
            "secret": secret,
            "example": example,
        }
    )
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """[site]: the site that this gateway serves."""

    name: str = setting(
        "site",
        reads.matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of letters, digits, . _ and -"),
        "",
        "The site's name: in every key.",
        example="north",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """[spool]: where images are kept, and for how long."""

    path: Path = setting(
        "var/spool",
        reads.folder,
        "",
        "The folder that holds every image until it is proved to be in the bucket.",
        example="/var/lib/headgate/spool",
    )
    keep_done: int = setting(
        "1d",
        reads.of(reads.span),
        "seconds",
        "How long an uploaded image's local copy stays in done/.",
    )
    keep_done_max: int | Percent = setting(
        "10%",
        reads.of(units.parse_room),
        "bytes, or a share of the disk",
        "The most that done/ may take; the oldest go first.",
    )
    keep_free: int | Percent = setting(
        "5%",
        reads.of(units.parse_room),
        "bytes, or a share of the disk",
        "Free space that uploads never use; below it they are refused with 507.",
    )
    keep_receipts: int = setting(
        "30d",
        reads.of(reads.positive(reads.span, 2 * 86400, "2d")),
        "seconds",
        "How long receipts of uploaded images can be asked for; whole days.",
    )
    dedupe: int = setting(
        "2d",
        reads.of(reads.span),
        "seconds",
        "How long after its arrival the same image from the same device counts as already held.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """[receiver]: what the receiver takes, and from whom."""

    bind: str = setting(
        "127.0.0.1:8080",
        reads.bind,
        "",
        "Address and port to listen on.",
        example="0.0.0.0:8080",
    )
    max_image: int = setting(
        "20MiB",
        reads.of(reads.positive(units.parse_size, 1024, "1KiB")),
        "bytes",
        "The largest image accepted; a larger one is refused with 413.",
    )
    field: str = setting(
        "image",
        reads.matching(r"[^\s\"\\]{1,64}", "a form field's name"),
        "",
        "The name of the multipart field that holds the image.",
    )
    upload_status: int = setting(
        201,
        reads.number(200, 201),
        "HTTP status",
        "What a new image is answered with: 201, or 200 for devices that know no other success.",
    )
    auth: str = setting(
        "auto",
        reads.choice("auto", "token", "open"),
        "",
        "Who may send: token (each device's own), auto (none from this machine itself, while it "
        "listens to no other, no device has one and no proxy leaves a header) or open (see allow).",
    )
    allow: tuple[str, ...] = setting(
        [],
        reads.networks,
        "",
        'Networks that may send when auth is "open"; empty means any network.',
        example=["192.168.10.0/24"],
    )
    device_rate: int = setting(
        10,
        reads.number(0, 10_000),
        "requests a second; 0 for no bound",
        "How often one device may send; more is refused with 429.",
    )
    device_parallel: int = setting(
        4,
        reads.number(0, 10_000),
        "requests; 0 for no bound",
        "How many uploads of one device may arrive at once; more are refused with 429.",
    )
    intake: int = setting(
        "",
        reads.of(units.parse_rate, empty=0),
        "bytes a second; empty for no bound",
        "What all devices together may send; more is refused with 503.",
        example="20MB/s",
    )
    max_pixels: int = setting(
        50_000_000,
        reads.number(1, 10**12),
        "pixels",
        "The largest image by the width and height it declares; a larger one is refused with 422.",
    )
    threads: int = setting(
        640,
        reads.number(4, 4096),
        "threads",
        "Requests served at once; a slow client holds one of them.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """[uplink]: how much may leave, and when."""

    link: int = setting(
        "12000MB/min",
        reads.of(reads.link),
        "bytes a second",
        "What the uplink carries in all.",
    )
    share: Percent = setting(
        "20%",
        reads.of(units.parse_percent),
        "",
        "The share of the link that images may use.",
    )
    timetable: tuple[TimetableEntry, ...] = setting(
        [],
        reads.hours,
        "",
        'Other shares at certain hours, local time: ["Mon-Fri 08:00-18:00 10%", "Sat,Sun 100%"].',
        example=["Mon-Fri 08:00-18:00 10%", "Sat,Sun 100%"],
    )
    daily: int = setting(
        "",
        reads.of(reads.positive(units.parse_size, 1, "1B"), empty=0),
        "bytes; empty for no bound",
        "The most bytes that leave on one local day of the wall clock.",
        example="500GB",
    )
    interval: int = setting(
        "5min",
        reads.of(reads.interval),
        "seconds",
        "How often cron starts a run; link x share x interval is a run's budget.",
    )
    trigger: str = setting(
        "cron",
        reads.choice("cron", "queue"),
        "",
        "What starts the runs: cron, or messages of a job queue that headgate worker takes.",
    )
    order: str = setting(
        "mixed",
        reads.choice("mixed", "oldest", "newest"),
        "",
        "Within a device: mixed sends seven newest, then three oldest.",
    )
    parallel: int | Literal["auto"] = setting(
        "auto",
        reads.auto_or_number,
        "connections",
        "Connections at once: auto follows rate, latency and size.",
    )
    batch_images: int = setting(
        0,
        reads.number(0, 10**9),
        "images; 0 for no bound",
        "The most images that one run sends.",
        example=10000,
    )
    batch_bytes: int = setting(
        "",
        reads.of(units.parse_size, empty=0),
        "bytes; empty for no bound",
        "The most bytes of images that one run sends.",
        example="2GB",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """[s3]: the bucket, and how objects are stored in it."""

    bucket: str = setting(
        "",
        reads.matching(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", "a bucket's name"),
        "",
        "Where the images go.",
        example="north-pictures",
    )
    prefix: str = setting(
        "",
        reads.prefix,
        "",
        "What every key begins with; end it with a slash for a folder.",
        example="cameras/",
    )
    layout: str = setting(
        "device",
        reads.choice("device", "date", "hive"),
        "",
        "Keys: device (site/device/2026/11/23/name), date (site/2026/11/23/16/device/name), hive.",
    )
    endpoint_url: str = setting(
        "",
        reads.url(reads.URL, "a URL like https://s3.example.net"),
        "",
        "An S3-compatible server; empty for AWS.",
        example="https://s3.example.net",
    )
    region: str = setting(
        "",
        reads.matching(r"([a-z0-9-]{1,32})?", "a region like eu-central-1"),
        "",
        "The bucket's region; empty: as boto3 finds it.",
        example="eu-central-1",
    )
    profile: str = setting(
        "",
        reads.TEXT,
        "",
        "A profile of the AWS configuration; empty: as boto3 finds its credentials.",
        example="headgate",
    )
    addressing: str = setting(
        "auto",
        reads.choice("auto", "path", "virtual"),
        "",
        "Where the bucket stands in a URL: path, virtual (in the host's name), or as boto3 has it.",
    )
    ca_bundle: str = setting(
        "",
        reads.TEXT,
        "",
        "A file of certificates to trust for the server; empty: as boto3 has it.",
        example="/etc/ssl/certs/site-ca.pem",
    )
    check_copies: str = setting(
        "on",
        reads.choice("on", "off"),
        "",
        "Whether the bucket must still hold an image before its local copy goes; "
        "off where something takes images out of the bucket on purpose.",
        example="off",
    )
    storage_class: str = setting(
        "",
        reads.matching(r"[A-Z_]{0,32}", "a storage class like STANDARD_IA"),
        "",
        "The storage class of each object; empty: the bucket's own.",
        example="STANDARD_IA",
    )
    encryption: str = setting(
        "",
        reads.choice("", "AES256", "aws:kms", "aws:kms:dsse"),
        "",
        "Encryption by the server: AES256, aws:kms or aws:kms:dsse; empty: the bucket's own.",
        example="aws:kms",
    )
    kms_key: str = setting(
        "",
        reads.matching(r"[!-~]{0,2048}", "a KMS key's id or ARN"),
        "",
        "The KMS key; empty: the bucket's own, or the account's.",
        example="alias/pictures",
    )
    bucket_key: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Whether KMS is asked through an S3 Bucket Key, at fewer requests.",
        example=True,
    )
    tags: tuple[str, ...] = setting(
        [],
        reads.tags,
        "",
        'Tags of each object, as "team=traffic"; needs s3:PutObjectTagging.',
        example=["team=traffic"],
    )
    requester_pays: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Whether to agree to pay for requests, as a bucket with requester pays wants.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """[queue]: the job queue that can stand in for cron."""

    broker: str = setting(
        "",
        reads.secret(
            reads.BROKER_URL, "redis://host:6379/0, rediss://..., or the URL of an SQS queue"
        ),
        "",
        "Where the messages come from: a Redis server, or an SQS queue by its URL.",
        secret=True,
        example="redis://127.0.0.1:6379/0",
    )
    name: str = setting(
        "",
        reads.matching(r"[A-Za-z0-9_-]{0,75}", "a queue's name: letters, digits, - and _"),
        "",
        "The queue's name on a Redis server; empty: headgate- and the site's name.",
        example="headgate-north",
    )
    floor: int = setting(
        "1h",
        reads.of(reads.interval),
        "seconds",
        'How often cron starts a run all the same when uplink.trigger is "queue".',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """[jobs]: who may ask for a run over HTTP."""

    rate: int = setting(
        6,
        reads.number(1, 1000),
        "jobs a minute",
        "How many drains POST /jobs/drain takes; more are refused with 429.",
    )
    oidc_audience: str = setting(
        "",
        reads.matching(r"[!-~]{0,512}", "an audience like https://north.example.net/jobs/drain"),
        "",
        "The audience of identity tokens that may ask for drains; empty: none may.",
        example="https://north.example.net/jobs/drain",
    )
    oidc_email: str = setting(
        "",
        reads.matching(
            rf"({reads.ADDRESS})?", 'an address like "name@project.iam.gserviceaccount.com"'
        ),
        "",
        "Whose identity token: the service account's address.",
        example="headgate@project.iam.gserviceaccount.com",
    )
    oidc_issuer: str = setting(
        "https://accounts.google.com",
        reads.url(r"https?://[!-~]{1,500}", "a URL like https://accounts.google.com"),
        "",
        "Who has to have issued the identity token.",
    )
    oidc_keys: str = setting(
        "https://www.googleapis.com/oauth2/v3/certs",
        reads.url(reads.KEYS, "a URL, or a file's path"),
        "",
        "The issuer's public keys, a JWK set: a URL that headgate watch fetches, or a file.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """[metrics]: metrics beside the page's /metrics."""

    textfile: str = setting(
        "",
        reads.matching(r"(.*\.prom)?", "a file that ends in .prom"),
        "",
        "Where each run leaves the metrics for node_exporter's textfile collector; empty: nowhere.",
        example="/var/lib/node_exporter/headgate.prom",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """[alerts]: who gets alerts, and through which channels."""

    slack_webhook: str = setting(
        "",
        reads.secret(reads.URL, "an URL like https://hooks.slack.com/services/..."),
        "",
        "An incoming webhook of Slack's that alerts are posted to; empty for none.",
        secret=True,
        example="https://hooks.slack.com/services/...",
    )
    mail_to: tuple[str, ...] = setting(
        [],
        reads.addresses,
        "",
        "Who gets alerts by mail; empty for nobody.",
        example=["ops@example.net"],
    )
    mail_from: str = setting(
        "",
        reads.matching(rf"({reads.ADDRESS})?", 'an address like "headgate@example.net"'),
        "",
        "Who the mail is from; empty: headgate at this machine's name.",
        example="headgate@example.net",
    )
    smtp_url: str = setting(
        "",
        reads.secret(
            reads.SMTP_URL, "an URL like smtp://user:password@mail.example.net:587, or smtps://"
        ),
        "",
        "The mail server; smtp:// turns to TLS where it is offered, smtps:// begins with it.",
        secret=True,
        example="smtp://user:password@mail.example.net:587",
    )
    apprise: tuple[str, ...] = setting(
        [],
        reads.services,
        "",
        "Other services that get alerts, as addresses of Apprise (EXTRAS=apprise); with spaces "
        "between them in a variable.",
        secret=True,
        example=["tgram://bottoken/chat"],
    )
    heartbeat_url: str = setting(
        "",
        reads.secret(reads.URL, "an URL like https://hc-ping.com/..."),
        "",
        "Pinged at /start when a run starts and at /<exit code> when it ends, 6 while nothing is "
        "confirmed; empty for none.",
        secret=True,
        example="https://hc-ping.com/...",
    )
    device_silent: int | Literal["auto"] = setting(
        "auto",
        reads.of(reads.silent),
        "seconds; auto: learnt from each device",
        "After how long a device that sends nothing is told of; or auto, or never.",
        example="6h",
    )
    cloudwatch: str = setting(
        "off",
        reads.choice("off", "on"),
        "",
        "Whether each run puts its numbers into Amazon CloudWatch, in s3.region.",
        example="on",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """[log]: where runs write their log."""

    file: str = setting(
        "",
        reads.TEXT,
        "",
        "Where runs started by cron write their log, a JSON object a line; empty for stderr.",
        example="/var/log/headgate/drain.log",
    )


SECTIONS: dict[str, type] = {
    "site": SiteSettings,
    "spool": SpoolSettings,
    "receiver": ReceiverSettings,
    "uplink": UplinkSettings,
    "s3": S3Settings,
    "queue": QueueSettings,
    "jobs": JobSettings,
    "metrics": MetricSettings,
    "alerts": AlertSettings,
    "log": LogSettings,
}
SETTINGS: tuple[Setting, ...] = tuple(
    Setting(section, row.name, **row.metadata)
    for section, table in SECTIONS.items()
    for row in fields(table)
)
