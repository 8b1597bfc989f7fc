"""What an installation consists of: where each file of deploy/ goes, and with which names. Pure.

The files of deploy/ are valid as they are, for /opt/headgate and the users ``headgate`` and
``headgate-receiver``; for other names they are rewritten here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

PREFIX = "/opt/headgate"
PACKAGE = "/usr/lib/headgate"
"""The environment of a Debian package (``make deb``)."""
USER = "headgate"
CONFIG = "/etc/headgate/headgate.toml"
HOME = "/var/lib/headgate"
SPOOL = "/var/lib/headgate/spool"
IDENTITIES = "/var/lib/headgate/identities"
"""Which spool belongs at which path (``headgate.spool.identity``)."""
LOGS = "/var/log/headgate"
CRON_FILE = "/etc/cron.d/headgate"

SENDING = (
    "systemd/headgate-drain.service",
    "systemd/headgate-watch.service",
    "systemd/headgate-worker.service",
)
UNITS = "usr/local/lib/systemd/system"
"""Where an administrator's own packages put units (systemd.unit(5)); /etc is for what is edited."""
COMMANDS = ("headgate", "headgate-receiver")
"""What people type: links to those of the environment in use."""
RECEIVER_UNIT = "headgate-receiver.service"
WORKER_UNIT = "headgate-worker.service"
"""For a job queue; to be enabled by hand."""


@dataclass(frozen=True, slots=True)
class OptionalUnit:
    """A program for another way in, whose unit is enabled while a setting says so."""

    unit: str
    setting: str
    way: str  # for sentences
    extra: str = ""  # what it needs besides Headgate's own packages
    package: str = ""  # of that, what it imports
    bind: str = ""  # the setting with its address


OPTIONAL = (
    OptionalUnit("headgate-ftp.service", "ftp.enabled", "FTP", "ftp", "pyftpdlib", bind="ftp.bind"),
    OptionalUnit(
        "headgate-smtp.service", "smtp.enabled", "mail", "smtp", "aiosmtpd", bind="smtp.bind"
    ),
    OptionalUnit("headgate-intake.service", "intake.folders", "watched folders"),
)
_HOMES = ("/home/", "/root/", "/run/user/")
"""What systemd's ProtectHome= shuts."""
TIMERS = ("headgate-drain.timer", "headgate-watch.timer")
COMPLETIONS = {
    "bash": "usr/local/share/bash-completion/completions/headgate",
    "zsh": "usr/local/share/zsh/site-functions/_headgate",
    "fish": "usr/local/share/fish/vendor_completions.d/headgate.fish",
}
"""Where each shell looks for what completes a command of the administrator's own."""
CREDENTIALS = """\
# AWS credentials of the uploader; the receiver's user cannot read this file.
# [default]
# aws_access_key_id = ...
# aws_secret_access_key = ...
"""
SECRETS = """\
# Secrets of alerts and of the job queue; the receiver's user cannot read this file.
# [alerts]
# slack_webhook = "https://hooks.slack.com/services/..."
# smtp_url = "smtp://user:password@mail.example.net:587"
# [queue]
# broker = "rediss://:password@redis.example.net:6379/0"
"""


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """The names of one installation. ``spool``, ``log_folders`` and the interval follow from its
    settings."""

    prefix: str = PREFIX
    user: str = USER
    config: str = CONFIG
    spool: str = SPOOL
    interval_seconds: int = 300
    written_by_runs: tuple[str, ...] = ()  # folders besides the spool
    taken_from: tuple[str, ...] = ()  # folders that are watched
    low_ports: tuple[str, ...] = ()  # units that listen on a port below 1024

    @property
    def receiver(self) -> str:
        """The user that the receiver runs as."""
        return f"{self.user}-receiver"

    @property
    def group(self) -> str:
        """What both share the spool through."""
        return self.user


@dataclass(frozen=True, slots=True)
class Placed:
    """A file of deploy/ and where it goes, from the root on. ``kept``: as dpkg's conffiles, what
    was edited stays."""

    source: str
    target: str
    kept: bool = False


def placed(plan: InstallPlan, names: list[str]) -> Iterator[Placed]:
    """Where each of these files of deploy/ (paths from there) goes; samples go nowhere."""
    for name in sorted(names):
        path = PurePosixPath(name)
        match path.parts[0]:
            case "systemd":
                yield Placed(name, f"{UNITS}/{path.name}")
            case "sysusers.d" | "tmpfiles.d":
                yield Placed(name, f"usr/local/lib/{name}")
            case "logrotate.d":
                yield Placed(name, f"etc/logrotate.d/{path.name}", kept=True)
            case "headgate.toml":
                yield Placed(name, plan.config.lstrip("/"), kept=True)
            case "man":
                yield Placed(name, f"usr/local/share/man/man1/{path.name}")


def render(plan: InstallPlan, name: str, text: str) -> str:
    """The text of a file of deploy/, with the names of this installation."""
    if name.startswith(("systemd/", "tmpfiles.d/", "logrotate.d/")):
        text = _rename(plan, text)
    if name.startswith("sysusers.d/"):
        text = re.sub(rf"(?<=[ :]){USER}(?=[ -])", plan.user, text)
    if name == "headgate.toml":
        text = text.replace(SPOOL, plan.spool)
    if name == "systemd/headgate-drain.timer":
        text = text.replace("OnUnitActiveSec=300s", f"OnUnitActiveSec={plan.interval_seconds}s")
    if name in SENDING:
        more = "".join(f"ReadWritePaths=-{folder}\n" for folder in plan.written_by_runs)
        text = text.replace(
            f"ReadWritePaths={plan.spool}\n", f"ReadWritePaths={plan.spool}\n{more}"
        )
    if name == f"systemd/{OPTIONAL[-1].unit}":
        text = _with_folders(text, plan.taken_from)
    if PurePosixPath(name).name in plan.low_ports:
        may = "CAP_NET_BIND_SERVICE"
        text = re.sub("(?m)^(CapabilityBoundingSet|AmbientCapabilities)=$", rf"\1={may}", text)
    return text


def _with_folders(text: str, folders: tuple[str, ...]) -> str:
    """A unit that may write there as well. One that is missing does not keep it from starting: the
    program itself says so. Homes are shut (ProtectHome=) but for the folders named."""
    lines = []
    for folder in folders:
        word = folder.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
        if folder.startswith(_HOMES):
            lines.append(f'BindPaths="-{word}"\n')
            text = text.replace("ProtectHome=yes", "ProtectHome=tmpfs")
        else:
            lines.append(f'ReadWritePaths="-{word}"\n')
    return text.replace("ProtectSystem=", f"{''.join(lines)}ProtectSystem=", 1)


def _rename(plan: InstallPlan, text: str) -> str:
    words: Mapping[str, str] = {
        f"{PREFIX}/bin/": f"{plan.prefix}/bin/",
        CONFIG: plan.config,
        SPOOL: plan.spool,
        f"User={USER}-receiver\n": f"User={plan.receiver}\n",
        f"User={USER}\n": f"User={plan.user}\n",
        f"Group={USER}\n": f"Group={plan.group}\n",
        f" {USER} {USER}": f" {plan.user} {plan.group}",  # tmpfiles.d, logrotate
    }
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(pattern, lambda found: words[found[0]], text)
