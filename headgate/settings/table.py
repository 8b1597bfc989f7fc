"""The table of all settings, one dataclass for each section: it makes the file, the variables and
the docs, and mypy compares each value's type with what reads it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from headgate.settings import parsers as reads
from headgate.settings import units
from headgate.settings.intake import IntakeFolder
from headgate.settings.timetable import TimetableEntry
from headgate.settings.units import Percent

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, a row of the table. ``unit`` is what the parsed value is counted in;
    ``example`` is shown where the default says little."""

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
        """Which values the setting takes, in words."""
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
    """Describe one field of a section: its default as an owner writes it, and what reads that."""
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
        "The site's name; part of every object key.",
        example="north",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """[spool]: where images are kept, and for how long."""

    path: Path = setting(
        "var/spool",
        reads.folder,
        "",
        "The folder that stores every image until it is confirmed in the bucket.",
        example="/var/lib/headgate/spool",
    )
    keep_done: int = setting(
        "1d",
        reads.of(reads.span),
        "seconds",
        "How long to keep the local copy of an uploaded image in done/.",
    )
    keep_done_max: int | Percent = setting(
        "10%",
        reads.of(units.parse_room),
        "bytes, or a share of the disk",
        "Maximum size of done/; the oldest copies are deleted first.",
    )
    keep_free: int | Percent = setting(
        "5%",
        reads.of(units.parse_room),
        "bytes, or a share of the disk",
        "Free space that uploads never use; below it, uploads are refused with 507.",
    )
    keep_receipts: int = setting(
        "30d",
        reads.of(reads.positive(reads.span, 2 * 86400, "2d")),
        "seconds",
        "How long to keep receipts of uploaded images, in whole days.",
    )
    dedupe: int = setting(
        "2d",
        reads.of(reads.span),
        "seconds",
        "How long a repeat of an image from the same device gets the first receipt.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """[receiver]: which images the receiver accepts, and from which devices."""

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
    field: tuple[str, ...] = setting(
        ["image", "*"],
        reads.fields,
        "",
        "Names of the form fields that contain images, the usual one first; `*` in a name stands "
        "for any text. Files in other fields are not stored.",
        example=["image"],
    )
    strict: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Refuse uploads whose metadata, form or address has a fault. Otherwise the image is "
        "stored, and its receipt has a warning.",
    )
    paths: tuple[str, ...] = setting(
        [],
        reads.paths,
        "",
        "Additional paths that accept images, besides `/uploadImage` and `/images`.",
        example=["/api/v1/snapshot"],
    )
    token_in_url: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Accept a token as `?token=` in the URL, for cameras that can be configured in no other "
        "way. Proxies may write it to their logs.",
    )
    upload_status: int = setting(
        201,
        reads.number(200, 201),
        "HTTP status",
        "Status of the answer to a new image: 201, or 200 for devices that accept no other.",
    )
    auth: str = setting(
        "auto",
        reads.choice("auto", "token", "open"),
        "",
        "Who may send: token (each device has its own), open (see allow), or auto: no token needed "
        "from this machine while bind is loopback, no device has a token and no proxy header "
        "comes.",
    )
    allow: tuple[str, ...] = setting(
        [],
        reads.networks,
        "",
        'Networks that may send when auth is "open"; empty means any network.',
        example=["192.168.10.0/24"],
    )
    hosts: tuple[str, ...] = setting(
        [],
        reads.host_names,
        "",
        "Names under which browsers reach the receiver; empty means this machine's own. IP "
        "addresses and localhost always count. Under another name the page and /metrics need a "
        "token; uploads come under any name.",
        example=["gateway.north.example"],
    )
    device_rate: int = setting(
        10,
        reads.number(0, 10_000),
        "requests a second; 0 for no limit",
        "Maximum request rate of one device; above it, requests get 429.",
    )
    device_parallel: int = setting(
        4,
        reads.number(0, 10_000),
        "requests; 0 for no limit",
        "Maximum concurrent uploads of one device; above it, requests get 429.",
    )
    intake: int = setting(
        "",
        reads.of(units.parse_rate, empty=0),
        "bytes a second; empty for no limit",
        "Maximum incoming rate of all devices together; above it, uploads get 503.",
        example="20MB/s",
    )
    max_pixels: int = setting(
        500_000_000,
        reads.number(1, 10**12),
        "pixels",
        "Maximum declared width x height of an image; a larger one is refused with 422.",
    )
    threads: int = setting(
        640,
        reads.number(4, 4096),
        "threads",
        "Maximum concurrent requests of each process that serves; each slow client occupies one "
        "thread.",
    )
    processes: int | Literal["auto"] = setting(
        "auto",
        reads.auto_or_number(8),
        "processes",
        "Processes that serve, on one port: auto for one a processor core that this machine or its "
        "control group gives, 8 at most.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """[auth]: people, and what is kept of what they did."""

    session_idle: int = setting(
        "12h",
        reads.of(reads.positive(reads.span, 60, "1min")),
        "seconds",
        "How long a log-in lasts without a request; a page that is open asks every few seconds.",
    )
    session_max: int = setting(
        "7d",
        reads.of(reads.positive(reads.span, 60, "1min")),
        "seconds",
        "How long a log-in lasts at most.",
    )
    proxy_user_header: str = setting(
        "",
        reads.matching(r"([A-Za-z0-9-]{1,64})?", "the name of a header, such as X-Forwarded-User"),
        "",
        "Header in which a proxy names the user who logged in there (single sign-on); empty for "
        "none. It counts from auth.proxy_addresses alone.",
        example="X-Forwarded-User",
    )
    proxy_role_header: str = setting(
        "",
        reads.matching(r"([A-Za-z0-9-]{1,64})?", "the name of a header, such as X-Forwarded-Role"),
        "",
        "Header in which that proxy names the user's role: viewer, operator or admin, or a list "
        "of groups with one of these among them; empty for none.",
        example="X-Forwarded-Groups",
    )
    proxy_role: str = setting(
        "viewer",
        reads.choice("none", "viewer", "operator", "admin"),
        "",
        "Role of the users whom that proxy names without a role; none refuses them.",
    )
    proxy_addresses: tuple[str, ...] = setting(
        [],
        reads.networks,
        "",
        "Addresses or networks of proxies whose user header and X-Forwarded-For are believed.",
        example=["127.0.0.1"],
    )
    keep_audit: int = setting(
        "1825d",
        reads.of(reads.positive(reads.span, 86400, "1d")),
        "seconds",
        "How long to keep the lines of the audit log.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """[intake]: folders from which pictures are taken."""

    folders: tuple[IntakeFolder, ...] = setting(
        [],
        reads.intake_folders,
        "",
        "Folders from which headgate intake takes pictures: each a path, whose sub-folders are the "
        'devices, or "path = device", or "path = {device}_*.jpg".',
        example=["/srv/cameras", "/srv/gate = cam-07"],
    )
    quiet: int = setting(
        "5s",
        reads.of(reads.positive(reads.span, 1, "1s")),
        "seconds",
        "How long a file must be unchanged before it is taken.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FtpSettings:
    """[ftp]: pictures by FTP, where headgate-ftp runs."""

    enabled: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Whether `headgate install` lets systemd run headgate-ftp (make install EXTRAS=ftp).",
    )
    bind: str = setting(
        "127.0.0.1:2121",
        reads.bind,
        "",
        "Address and port that headgate-ftp listens on.",
        example="0.0.0.0:21",
    )
    passive_ports: tuple[int, ...] = setting(
        "",
        reads.ports,
        "",
        "Ports for passive data connections, such as 50000-50099; empty for any. A firewall must "
        "let them through.",
        example="50000-50099",
    )
    passive_address: str = setting(
        "",
        reads.TEXT,
        "",
        "The address that cameras use for passive data connections, where that is not this "
        "machine's own (NAT).",
        example="203.0.113.7",
    )
    certificate: str = setting(
        "",
        reads.TEXT,
        "",
        "File with the certificate chain; with it, cameras may use TLS (AUTH TLS).",
        example="/etc/headgate/ftp.pem",
    )
    key: str = setting(
        "",
        reads.TEXT,
        "",
        "File with the certificate's private key; empty if the certificate's file has it.",
        example="/etc/headgate/ftp.key",
    )
    require_tls: bool = setting(False, reads.true_or_false, "", "Refuse sessions without TLS.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """[smtp]: pictures by mail, where headgate-smtp runs."""

    enabled: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Whether `headgate install` lets systemd run headgate-smtp (make install EXTRAS=smtp).",
    )
    bind: str = setting(
        "127.0.0.1:2525",
        reads.bind,
        "",
        "Address and port that headgate-smtp listens on.",
        example="0.0.0.0:25",
    )
    certificate: str = setting(
        "",
        reads.TEXT,
        "",
        "File with the certificate chain; with it, cameras may use TLS (STARTTLS).",
        example="/etc/headgate/smtp.pem",
    )
    key: str = setting(
        "",
        reads.TEXT,
        "",
        "File with the certificate's private key; empty if the certificate's file has it.",
        example="/etc/headgate/smtp.key",
    )
    require_tls: bool = setting(False, reads.true_or_false, "", "Refuse mail without TLS.")


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """[uplink]: how much may leave, and when."""

    link: int = setting(
        "12000MB/min",
        reads.of(reads.link),
        "bytes a second",
        "Total bandwidth of the uplink.",
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
        "bytes; empty for no limit",
        "Maximum bytes to send on one local calendar day.",
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
        "What starts the runs: cron, or messages of a job queue that headgate worker receives.",
    )
    order: str = setting(
        "mixed",
        reads.choice("mixed", "oldest", "newest"),
        "",
        "Order within a device: mixed sends seven newest, then three oldest.",
    )
    parallel: int | Literal["auto"] = setting(
        "auto",
        reads.auto_or_number(256),
        "connections",
        "Concurrent connections to S3; auto adapts to rate, latency and image size.",
    )
    batch_images: int = setting(
        0,
        reads.number(0, 10**9),
        "images; 0 for no limit",
        "Maximum images that one run sends.",
        example=10000,
    )
    batch_bytes: int = setting(
        "",
        reads.of(units.parse_size, empty=0),
        "bytes; empty for no limit",
        "Maximum bytes of images that one run sends.",
        example="2GB",
    )
    gateway: str = setting(
        "",
        reads.matching(
            r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})?", "a name of letters, digits, . _ and -"
        ),
        "",
        "Name of this gateway among those of its site that share the uplink; empty for a site with "
        "one gateway.",
        example="gw1",
    )
    gateways: int = setting(
        1,
        reads.number(1, 1000),
        "gateways",
        "How many gateways share the uplink. Together their floors are never lent.",
        example=3,
    )
    floor: int = setting(
        "",
        reads.of(reads.link, empty=0),
        "bytes a second; empty for none",
        "Rate that is always this gateway's own, also while Redis is away; the rest of the uplink "
        "is lent to the gateways that need it.",
        example="200MB/min",
    )
    shared: str = setting(
        "",
        reads.secret(
            reads.SHARED_URL,
            "redis://host:6379/0, rediss://..., unix:///path or sentinel://host:26379,host/NAME",
        ),
        "",
        "URL of the Redis server through which the gateways of a site lend each other the uplink "
        "and know each other's images; or of its Sentinels: sentinel://host1,host2,host3/NAME.",
        secret=True,
        example="redis://redis.example.net:6379/0",
    )
    remember: int = setting(
        200_000,
        reads.number(1000, 10**8),
        "images",
        "How many images the gateways of a site remember together in Redis, about 1.2 KB each, so "
        "that a repeat gets the first receipt at any of them; the oldest are forgotten first, and "
        "each after spool.dedupe.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings:
    """[destination]: where images go: a bucket, or another server over HTTP."""

    kind: str = setting(
        "s3",
        reads.choice("s3", "http"),
        "",
        "Where images go: s3 (the bucket in [s3]), or http: each is posted to destination.url.",
        example="http",
    )
    url: str = setting(
        "",
        reads.url(reads.URL, "a URL like https://gateway.example.net/images"),
        "",
        "Address that images are posted to, of another Headgate or any server that takes uploads.",
        example="https://gateway.example.net/images",
    )
    token: str = setting(
        "",
        reads.secret(r"[!-~]{0,4096}", "a token of printable ASCII characters"),
        "",
        "Token sent as Authorization: Bearer; empty sends none.",
        secret=True,
        example="hg_...",
    )
    field: str = setting(
        "image",
        reads.matching(r"[^\s\"\\]{0,64}", "a form field's name"),
        "",
        "Form field that holds the image; if empty, the image itself is the body.",
    )
    proof: str = setting(
        "receipt",
        reads.choice("receipt", "status"),
        "",
        "What confirms an image: receipt (of a Headgate, which names its SHA-256), or status: any "
        "2xx. A status proves that something answered, and not that the image is stored.",
    )
    await_safe: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Count an image as uploaded only once the receiving Headgate says safe_to_erase, which is "
        "when its own destination has it.",
        example=True,
    )
    ca_bundle: str = setting(
        "",
        reads.TEXT,
        "",
        "CA certificates to trust for destination.url; if empty, the system's.",
        example="/etc/ssl/certs/site-ca.pem",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """[s3]: the bucket, and how objects are stored in it."""

    bucket: str = setting(
        "",
        reads.matching(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", "a bucket's name"),
        "",
        "The S3 bucket for the images.",
        example="north-pictures",
    )
    prefix: str = setting(
        "",
        reads.prefix,
        "",
        "Prefix of every key; end it with a slash for a folder.",
        example="cameras/",
    )
    layout: str = setting(
        "device",
        reads.choice("device", "date", "hive"),
        "",
        "Key layout: device (site/device/2026/11/23/name), date "
        "(site/2026/11/23/16/device/name), hive.",
    )
    endpoint_url: str = setting(
        "",
        reads.url(reads.URL, "a URL like https://s3.example.net"),
        "",
        "URL of an S3-compatible server; empty for AWS.",
        example="https://s3.example.net",
    )
    region: str = setting(
        "",
        reads.matching(r"([a-z0-9-]{1,32})?", "a region like eu-central-1"),
        "",
        "Region of the bucket; if empty, boto3's own search applies.",
        example="eu-central-1",
    )
    profile: str = setting(
        "",
        reads.TEXT,
        "",
        "AWS configuration profile; if empty, boto3's own search for credentials applies.",
        example="headgate",
    )
    addressing: str = setting(
        "auto",
        reads.choice("auto", "path", "virtual"),
        "",
        "Where the bucket is in the URL: path, virtual (in the host name), or auto: boto3 decides.",
    )
    ca_bundle: str = setting(
        "",
        reads.TEXT,
        "",
        "CA certificates to trust for the server; if empty, boto3's default.",
        example="/etc/ssl/certs/site-ca.pem",
    )
    check_copies: str = setting(
        "on",
        reads.choice("on", "off"),
        "",
        "Check that an image is still in the bucket before deleting its local copy, and a sample "
        "of the others each day; off if objects are removed from the bucket on purpose.",
        example="off",
    )
    download_proof: int = setting(
        "",
        reads.of(units.parse_size, empty=0),
        "bytes; empty for never",
        "Largest image that is downloaded again to confirm it, from a server that proves nothing "
        "otherwise; what comes back counts in the budget. Larger images are never confirmed there, "
        "unless s3.download_sample is set.",
        example="500KB",
    )
    download_sample: int = setting(
        0,
        reads.number(0, 1_000_000),
        "images; 0 for no sample",
        "Of images larger than s3.download_proof one in this many is downloaded again to confirm "
        "it; the others count once a HEAD finds their length, which proves nothing of their bytes.",
        example=100,
    )
    storage_class: str = setting(
        "",
        reads.matching(r"[A-Z_]{0,32}", "a storage class like STANDARD_IA"),
        "",
        "Storage class of each object; if empty, the bucket's default.",
        example="STANDARD_IA",
    )
    encryption: str = setting(
        "",
        reads.choice("", "AES256", "aws:kms", "aws:kms:dsse"),
        "",
        "Server-side encryption: AES256, aws:kms or aws:kms:dsse; if empty, the bucket's default.",
        example="aws:kms",
    )
    kms_key: str = setting(
        "",
        reads.matching(r"[!-~]{0,2048}", "a KMS key's id or ARN"),
        "",
        "KMS key; if empty, the bucket's or the account's default key.",
        example="alias/pictures",
    )
    bucket_key: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Use an S3 Bucket Key, which needs fewer KMS requests.",
        example=True,
    )
    tags: tuple[str, ...] = setting(
        [],
        reads.tags,
        "",
        'Tags of each object, such as "team=traffic"; needs s3:PutObjectTagging.',
        example=["team=traffic"],
    )
    acl: str = setting(
        "",
        reads.choice(
            "",
            "private",
            "bucket-owner-read",
            "bucket-owner-full-control",
            "authenticated-read",
            "aws-exec-read",
            "public-read",
            "public-read-write",
        ),
        "",
        "Canned ACL of each object, for a bucket whose policy demands one, such as another "
        "account's; needs s3:PutObjectAcl. If empty, none is sent.",
        example="bucket-owner-full-control",
    )
    requester_pays: bool = setting(
        False,
        reads.true_or_false,
        "",
        "Agree to pay for requests, for a Requester Pays bucket.",
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
        "URL of the Redis server or of the SQS queue that delivers the messages.",
        secret=True,
        example="redis://127.0.0.1:6379/0",
    )
    name: str = setting(
        "",
        reads.matching(r"[A-Za-z0-9_-]{0,75}", "a queue's name: letters, digits, - and _"),
        "",
        "Queue name on a Redis server; if empty, headgate- and the site's name.",
        example="headgate-north",
    )
    floor: int = setting(
        "1h",
        reads.of(reads.interval),
        "seconds",
        'How often cron starts a fallback run when uplink.trigger is "queue".',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """[jobs]: who may start a run over HTTP."""

    rate: int = setting(
        6,
        reads.number(1, 1000),
        "jobs a minute",
        "Maximum rate of POST /jobs/drain; above it, requests get 429.",
    )
    oidc_audience: str = setting(
        "",
        reads.matching(r"[!-~]{0,512}", "an audience like https://north.example.net/jobs/drain"),
        "",
        "Audience of identity tokens that may start drains; if empty, none may.",
        example="https://north.example.net/jobs/drain",
    )
    oidc_email: str = setting(
        "",
        reads.matching(
            rf"({reads.ADDRESS})?", 'an address like "name@project.iam.gserviceaccount.com"'
        ),
        "",
        "Email address of the service account in the identity token.",
        example="headgate@project.iam.gserviceaccount.com",
    )
    oidc_issuer: str = setting(
        "https://accounts.google.com",
        reads.url(r"https?://[!-~]{1,500}", "a URL like https://accounts.google.com"),
        "",
        "Required issuer of the identity token.",
    )
    oidc_keys: str = setting(
        "https://www.googleapis.com/oauth2/v3/certs",
        reads.url(reads.KEYS, "a URL, or a file's path"),
        "",
        "The issuer's public keys (JWK set): a URL that headgate watch fetches, or a file.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """[metrics]: metrics in addition to /metrics."""

    textfile: str = setting(
        "",
        reads.matching(r"(.*\.prom)?", "a file that ends in .prom"),
        "",
        "File that each run writes metrics to, for node_exporter's textfile collector; empty "
        "for none.",
        example="/var/lib/node_exporter/headgate.prom",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """[alerts]: who gets alerts, and through which channels."""

    slack_webhook: str = setting(
        "",
        reads.secret(reads.URL, "a URL like https://hooks.slack.com/services/..."),
        "",
        "Slack incoming webhook for alerts; empty for none.",
        secret=True,
        example="https://hooks.slack.com/services/...",
    )
    mail_to: tuple[str, ...] = setting(
        [],
        reads.addresses,
        "",
        "Mail addresses for alerts; empty for none.",
        example=["ops@example.net"],
    )
    mail_from: str = setting(
        "",
        reads.matching(rf"({reads.ADDRESS})?", 'an address like "headgate@example.net"'),
        "",
        "Sender address of the mail; if empty, headgate at this machine's name.",
        example="headgate@example.net",
    )
    smtp_url: str = setting(
        "",
        reads.secret(
            reads.SMTP_URL, "a URL like smtp://user:password@mail.example.net:587, or smtps://"
        ),
        "",
        "Mail server; smtp:// uses STARTTLS if the server offers it, smtps:// uses TLS from the "
        "start.",
        secret=True,
        example="smtp://user:password@mail.example.net:587",
    )
    apprise: tuple[str, ...] = setting(
        [],
        reads.services,
        "",
        "Apprise URLs of other services for alerts (needs EXTRAS=apprise); in a variable, separate "
        "them with spaces.",
        secret=True,
        example=["tgram://bottoken/chat"],
    )
    heartbeat_url: str = setting(
        "",
        reads.secret(reads.URL, "a URL like https://hc-ping.com/..."),
        "",
        "URL to ping: /start when a run starts and /<exit code> when it ends, 6 while nothing is "
        "confirmed; empty for none.",
        secret=True,
        example="https://hc-ping.com/...",
    )
    device_silent: int | Literal["auto"] = setting(
        "auto",
        reads.of(reads.silent),
        "seconds; auto: learned from each device",
        "Alert when a device has sent nothing for this long; or auto, or never.",
        example="6h",
    )
    cloudwatch: str = setting(
        "off",
        reads.choice("off", "on"),
        "",
        "Publish each run's numbers to Amazon CloudWatch, in s3.region.",
        example="on",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """[log]: where runs write their log."""

    file: str = setting(
        "",
        reads.TEXT,
        "",
        "Log file of runs started by cron, one JSON object a line; empty for stderr.",
        example="/var/log/headgate/drain.log",
    )


SECTIONS: dict[str, type] = {
    "site": SiteSettings,
    "spool": SpoolSettings,
    "receiver": ReceiverSettings,
    "auth": AuthSettings,
    "intake": IntakeSettings,
    "ftp": FtpSettings,
    "smtp": SmtpSettings,
    "uplink": UplinkSettings,
    "destination": DestinationSettings,
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
