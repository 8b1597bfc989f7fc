"""The settings in force: defaults, file, variables and flags, one over the other. Pure.

Layers, later ones win: defaults, ``headgate.toml``, ``secrets.toml`` next to it,
``HEADGATE_<SECTION>_<KEY>`` variables (``..._FILE`` names a file that holds a secret), flags. All
faults are found before any is reported, so that a start fails once, with the whole list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.settings.suggest import did_you_mean
from headgate.settings.table import (
    SECTIONS,
    SETTINGS,
    AlertSettings,
    AuthSettings,
    DestinationSettings,
    FtpSettings,
    IntakeSettings,
    JobSettings,
    LogSettings,
    MetricSettings,
    QueueSettings,
    ReceiverSettings,
    S3Settings,
    Setting,
    SiteSettings,
    SmtpSettings,
    SpoolSettings,
    UplinkSettings,
)
from headgate.settings.units import Percent, UnitError

__all__ = ["SETTINGS", "Setting", "Settings", "SettingsError", "combine"]


class SettingsError(Exception):
    """The settings cannot be used; ``faults`` are sentences, all of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


_BY_NAME = {setting.name: setting for setting in SETTINGS}
_DOWNLOAD_MAX = 1024 * 1024
_PATHS = (
    "log.file", "metrics.textfile", "s3.ca_bundle", "destination.ca_bundle", "jobs.oidc_keys",
    "ftp.certificate", "ftp.key", "smtp.certificate", "smtp.key",
)  # fmt: skip
"""Settings that are paths, relative to the settings file's folder, where they are no URLs."""
_RESERVED = re.compile(r"HEADGATE_(CONFIG|TEST_.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Values by section, parsed, with where each came from. Paths are absolute."""

    site: SiteSettings
    spool: SpoolSettings
    receiver: ReceiverSettings
    auth: AuthSettings
    intake: IntakeSettings
    ftp: FtpSettings
    smtp: SmtpSettings
    uplink: UplinkSettings
    destination: DestinationSettings
    s3: S3Settings
    queue: QueueSettings
    jobs: JobSettings
    metrics: MetricSettings
    alerts: AlertSettings
    log: LogSettings
    written: Mapping[str, Any]  # as the owner wrote them, for people
    origin: Mapping[str, str]  # "default", the file's path, the variable, "flag"
    file: Path | None = None

    def value(self, name: str) -> Any:
        """The value of the setting ``section.key``, where its name is known only at run time."""
        section, _, key = name.partition(".")
        return getattr(getattr(self, section), key)

    @property
    def goes_to(self) -> str:
        """Where images are sent, for people: the bucket, or the URL; "" where none is set."""
        return self.destination.url if self.destination.kind == "http" else self.s3.bucket

    @property
    def usual_rate(self) -> int:
        """Bytes a second that images may use outside the timetable and without a limit: link x
        share, rounded down."""
        return self.uplink.share.of(self.uplink.link)

    @property
    def shares_uplink(self) -> bool:
        """Whether other gateways of the site use the same uplink."""
        return bool(self.uplink.gateway)

    @property
    def usual_budget(self) -> int:
        """Bytes an interval at the usual rate: what any window of one interval never exceeds."""
        return self.usual_rate * self.uplink.interval


@dataclass(frozen=True, slots=True)
class Secrets:
    """The file of secrets: only the uploader's user reads it. ``hidden`` from everybody else."""

    file: Path
    document: Mapping[str, Any]
    hidden: bool = False


def _flatten(document: Mapping[str, Any], faults: list[str], where: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    sections = {setting.section for setting in SETTINGS}
    for section, keys in document.items():
        if section not in sections or not isinstance(keys, Mapping):
            faults.append(f"{where}: there is no section [{section}]")
            continue
        for key, value in keys.items():
            if f"{section}.{key}" not in _BY_NAME:
                name = f"{section}.{key}"
                faults.append(f"{where}: there is no setting {name}{_meant(name)}")
            else:
                flat[f"{section}.{key}"] = value
    return flat


def _from_environment(
    environment: Mapping[str, str], read_file: Callable[[str], str], faults: list[str]
) -> dict[str, tuple[str, str]]:
    known = {setting.variable: setting for setting in SETTINGS}
    found: dict[str, tuple[str, str]] = {}
    for variable, value in environment.items():
        if not variable.startswith("HEADGATE_") or _RESERVED.fullmatch(variable):
            continue
        if variable in known:
            found[known[variable].name] = (value, variable)
        elif variable.endswith("_FILE") and variable[:-5] in known and known[variable[:-5]].secret:
            try:
                found[known[variable[:-5]].name] = (read_file(value).strip(), variable)
            except OSError as error:
                faults.append(f"{variable}: cannot read {value}: {error.strerror}")
            except UnicodeDecodeError:
                faults.append(f"{variable}: cannot read {value}: it is not UTF-8 text")
        else:
            faults.append(f"there is no setting for the variable {variable}")
    return found


def _no_files(path: str) -> str:
    raise FileNotFoundError(2, "files are not read here", path)


def _meant(name: str) -> str:
    return did_you_mean(name, _BY_NAME).replace(" Did", "; did", 1)


def combine(
    document: Mapping[str, Any] | None,
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
    base: Path,
    read_file: Callable[[str], str] = _no_files,
    secrets: Secrets | None = None,
) -> Settings:
    """The settings of these layers; SettingsError with every fault at once.

    ``base`` is what relative paths resolve against: the folder of the file, or the working folder.
    ``read_file`` reads what a ``..._FILE`` variable names.
    """
    faults: list[str] = []
    where = str(file) if file else "the settings"
    raw: dict[str, tuple[Any, str]] = {s.name: (s.default, "default") for s in SETTINGS}
    for name, value in _flatten(document or {}, faults, where).items():
        raw[name] = (value, where)
    if secrets is not None:
        for name, value in _flatten(secrets.document, faults, str(secrets.file)).items():
            if not _BY_NAME[name].secret:
                faults.append(f"{name} is not a secret: set it in {where}, not in {secrets.file}")
            raw[name] = (value, str(secrets.file))
    raw.update(_from_environment(environment, read_file, faults))
    for name, value in flags.items():
        if name in _BY_NAME:
            raw[name] = (value, "flag")
        else:
            faults.append(f"there is no setting {name}{_meant(name)}")
    values: dict[str, Any] = {}
    for name, (value, origin) in raw.items():
        try:
            values[name] = _BY_NAME[name].parse(value)
        except UnitError as error:
            source = "" if origin == "default" else f" (from {origin})"
            faults.append(f"{name}: {error}{source}")
    hidden = secrets is not None and secrets.hidden
    unseen = [s.name for s in SETTINGS if hidden and s.secret and raw[s.name][1] == "default"]
    faults.extend(_together({**values, **dict.fromkeys(unseen)}))
    if faults:
        raise SettingsError(faults)
    values["spool.path"] = base / values["spool.path"]
    for name in _PATHS:
        if values[name] and "://" not in str(values[name]):
            values[name] = str(base / str(values[name]))
    sections = {
        section: table(**{row.key: values[row.name] for row in SETTINGS if row.section == section})
        for section, table in SECTIONS.items()
    }
    return Settings(
        **sections,
        written={name: value for name, (value, _) in raw.items()},
        origin={name: origin for name, (_, origin) in raw.items()},
        file=file,
    )


def _together(values: Mapping[str, Any]) -> list[str]:
    """Faults that show when two settings are seen side by side; None is hidden from this user."""
    faults = []
    link, share = values.get("uplink.link"), values.get("uplink.share")
    if isinstance(link, int) and isinstance(share, Percent) and share.of(link) < 1000:
        faults.append("uplink.share: link x share is less than 1kB/s, so nothing could be sent")
    for entry in values.get("uplink.timetable", ()):
        if isinstance(link, int) and entry.share.hundredths and entry.share.of(link) < 1000:
            faults.append(f"uplink.timetable: {entry.text!r} is less than 1kB/s; 0% sends nothing")
    faults += _sharing(values)
    daily, image = values.get("uplink.daily"), values.get("receiver.max_image")
    if isinstance(daily, int) and isinstance(image, int) and 0 < daily < 2 * image:
        faults.append(
            "uplink.daily: less than twice receiver.max_image, so a large image could never be sent"
        )
    if values.get("alerts.mail_to") and values.get("alerts.smtp_url") == "":
        faults.append("alerts.mail_to: there is no mail server; set alerts.smtp_url")
    download = values.get("s3.download_proof")
    if isinstance(download, int) and download > _DOWNLOAD_MAX:
        faults.append("s3.download_proof: at most 1MiB; it is for small images, held in memory")
    if values.get("s3.download_sample") and not download:
        faults.append("s3.download_sample: is for images larger than s3.download_proof; set that")
    over_http = values.get("destination.kind") == "http"
    if over_http and not values.get("destination.url"):
        faults.append("destination.url: destination.kind is http, which needs the URL to post to")
    if values.get("destination.await_safe") and (
        not over_http or values.get("destination.proof") == "status"
    ):
        faults.append(
            "destination.await_safe: only a Headgate says safe_to_erase: it needs kind http and "
            "proof receipt"
        )
    interval, floor = values.get("uplink.interval"), values.get("queue.floor")
    queue = values.get("uplink.trigger") == "queue"
    if queue and values.get("queue.broker", "-") == "":
        faults.append("queue.broker: uplink.trigger is queue, which needs a broker; set its URL")
    if queue and isinstance(interval, int) and isinstance(floor, int) and floor < interval:
        faults.append("queue.floor: shorter than uplink.interval; it must be the longer one")
    if values.get("jobs.oidc_audience") and not values.get("jobs.oidc_email"):
        faults.append(
            "jobs.oidc_email: anyone can get a token for an audience; set the account to accept"
        )
    keep, dedupe = values.get("spool.keep_receipts"), values.get("spool.dedupe")
    if isinstance(keep, int) and isinstance(dedupe, int) and dedupe > keep:
        faults.append("spool.dedupe: longer than spool.keep_receipts, where repeats are looked up")
    kms = str(values.get("s3.encryption", "aws:kms")).startswith("aws:kms")
    faults += [
        f"s3.{key}: only with s3.encryption aws:kms"
        for key in ("kms_key", "bucket_key")
        if values.get(f"s3.{key}") and not kms
    ]
    return faults


def _sharing(values: Mapping[str, Any]) -> list[str]:
    """Faults of the settings by which gateways share one uplink."""
    gateway, shared = values.get("uplink.gateway"), values.get("uplink.shared")
    if shared and gateway == "":
        return ["uplink.gateway: uplink.shared is set, which needs a name for this gateway"]
    if not gateway:
        return []
    faults = []
    if shared == "":
        faults.append("uplink.shared: uplink.gateway is set; set the URL of the site's Redis")
    floor, gateways = values.get("uplink.floor"), values.get("uplink.gateways")
    link, share = values.get("uplink.link"), values.get("uplink.share")
    if not floor:
        faults.append(
            "uplink.floor: gateways that share an uplink need one, for when Redis is away"
        )
    elif (
        isinstance(gateways, int)
        and isinstance(link, int)
        and isinstance(share, Percent)
        and gateways * floor > share.of(link)
    ):
        faults.append(
            "uplink.floor: uplink.gateways x uplink.floor is more than link x share; set a lower "
            "floor"
        )
    return faults
