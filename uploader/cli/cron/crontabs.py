"""Tabs as they are: the crontab command's, or a file of /etc/cron.d; and the line for them."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from headgate.host import processes
from headgate.settings.settings import Settings
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from uploader.cli.cron import entry as crontab_line
from uploader.cli.cron import systemd_timer
from uploader.cli.cron.entry import CronEntry, CronError, ScheduleFault

CRON_D = Path("/etc/cron.d")


class Tab(Protocol):
    """A place where cron looks for lines."""

    @property
    def name(self) -> str:
        """What people call this crontab."""

    @property
    def with_user(self) -> bool:
        """Whether its lines name the user they run as."""

    def read(self) -> bytes:
        """Read the whole crontab, to the byte; empty where there is none."""

    def write(self, content: bytes) -> None:
        """Replace it; remove it where nothing is left."""


def _crontab(user: str | None, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    found = shutil.which("crontab", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if found is None:
        raise CronError(
            "there is no crontab command: install cron (Debian, Ubuntu: apt-get install cron)"
        )
    of = ["-u", user] if user is not None and user != account(None).pw_name else []
    ran = subprocess.run(
        [found, *of, *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    return ran.returncode, ran.stdout, ran.stderr.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class UserTab:
    """A user's own tab, by the crontab command; ``user`` None is who calls."""

    user: str | None = None

    @property
    def name(self) -> str:
        return f"the crontab of {account(self.user).pw_name}"

    @property
    def with_user(self) -> bool:
        return False

    def read(self) -> bytes:
        code, content, said = _crontab(self.user, "-l")
        if code != 0 and "no crontab for" not in said:
            raise CronError(f"crontab -l fails: {said}")
        return content if code == 0 else b""

    def write(self, content: bytes) -> None:
        code, _, said = (
            _crontab(self.user, "-", stdin=content) if content else _crontab(self.user, "-r")
        )
        if code != 0:
            raise CronError(f"crontab refuses the new tab: {said}")


@dataclass(frozen=True, slots=True)
class FileTab:
    """A file with a user in each line, as in /etc/cron.d."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def with_user(self) -> bool:
        return True

    def read(self) -> bytes:
        # cron(8) of Debian: names with other characters are passed over in silence.
        if self.path.parent == CRON_D and not re.fullmatch(r"[A-Za-z0-9_-]+", self.path.name):
            raise CronError(f"cron ignores {self.path}: only letters, digits, - and _ in its name")
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise CronError(f"cannot read {self.path}: {error.strerror}") from error

    def write(self, content: bytes) -> None:
        try:
            if not content:
                self.path.unlink(missing_ok=True)
                return
            durable.write_file(self.path, content)
            self.path.chmod(0o644)  # cron ignores a file that its group may write
        except (DiskError, OSError) as error:
            raise CronError(f"cannot write {self.path}: {error}; it is root's to write") from error


def account(user: str | None) -> pwd.struct_passwd:
    """Who runs the line; CronError when there is no such user."""
    try:
        return pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
    except KeyError as error:
        raise CronError(f"there is no user {user or os.geteuid()} on this machine") from error


def own_command() -> str:
    """The absolute path of the ``headgate`` command of this environment: of an installed one the
    path that stays the same when it is upgraded (PREFIX/bin, a link to PREFIX/versions/.../bin)."""
    path = Path(sysconfig.get_path("scripts")) / "headgate"
    if not path.is_file():
        raise CronError(f"{path} is missing, and cron needs it; install Headgate into this Python")
    if len(path.parents) > 3 and path.parents[2].name == "versions":
        lasting = path.parents[3] / "bin" / "headgate"
        if lasting.is_file() and lasting.samefile(path):
            return str(lasting)
    return str(path)


def installed_tab(settings: Settings) -> tuple[Path, str] | None:
    """The crontab of an installed gateway and its lines' user, for root who names no tab: an
    installed gateway has a file of its own in /etc/cron.d, and its spool belongs to the uploader's
    user. None where it is not like that: the lines go into the own tab of who asks."""
    try:
        owner = settings.spool.path.stat().st_uid
        if os.geteuid() != 0 or owner == 0 or not CRON_D.is_dir():
            return None
        return CRON_D / "headgate", pwd.getpwuid(owner).pw_name
    except (OSError, KeyError):
        return None


def is_running() -> bool:
    """Whether a cron runs on this machine."""
    return not processes.running_names().isdisjoint({"cron", "crond", "fcron"})


WATCH_SECONDS = 60
"""How often cron starts ``headgate watch``."""


def lines_for(settings: Settings, *, user: str | None) -> tuple[CronEntry, CronEntry]:
    """The run's line and the watch's; CronError as below."""
    run = line_for(settings, user=user)
    return run, replace(run, interval_seconds=WATCH_SECONDS, task="watch")


def line_for(settings: Settings, *, user: str | None) -> CronEntry:
    """The line of the runs; CronError where the settings give cron no file to read."""
    if settings.file is None:
        raise CronError(
            "there is no settings file, and cron sees no other settings: "
            "write headgate.toml here or in /etc/headgate"
        )
    seconds, setting = rhythm(settings)
    return CronEntry(seconds, own_command(), str(settings.file.absolute()), user, setting=setting)


def rhythm(settings: Settings) -> tuple[int, str]:
    """How often cron is to start a run, and the setting that says so. Where a queue starts the
    runs, cron's are the floor: what is left when the queue's trigger is beyond a dead uplink."""
    setting = "queue.floor" if settings.uplink.trigger == "queue" else "uplink.interval"
    return int(settings.value(setting)), setting


def check(settings: Settings) -> list[ScheduleFault]:
    """How cron differs from the settings, in this user's tab and in /etc/cron.d. Where
    systemd's timer starts the runs, how that does."""
    try:
        tabs: list[Tab] = [UserTab()]
        names = sorted(CRON_D.iterdir()) if CRON_D.is_dir() else []
        tabs += [FileTab(path) for path in names if re.fullmatch(r"[A-Za-z0-9_-]+", path.name)]
        read = [(tab, _readable(tab)) for tab in tabs]
        held = [(tab, found) for tab, found in read if crontab_line.find(found, "drain")]
        if systemd_timer.enabled():
            where = " and ".join(tab.name for tab, _ in held)
            twice = f"runs start twice: {systemd_timer.DRAIN} is enabled, and {where} has a line"
            return (
                [ScheduleFault(twice, "headgate cron remove")]
                if held
                else systemd_timer.compare(settings.uplink.interval)
            )
        if not held:
            return crontab_line.compare(b"", line_for(settings, user=None))
        if len(held) > 1:
            names_held = " and ".join(tab.name for tab, _ in held)
            twice = f"runs start twice: {names_held} each have a line"
            return [ScheduleFault(twice, "headgate cron remove")]
        tab, content = held[0]
        user = None
        if tab.with_user:
            line = crontab_line.parse(crontab_line.find(content, "drain")[0], with_user=True)
            user = line.user if line and line.user else account(None).pw_name
        return [
            fault
            for wanted in lines_for(settings, user=user)
            for fault in crontab_line.compare(content, wanted)
        ]
    except CronError as error:
        return [ScheduleFault(str(error), fix="")]


def _readable(tab: Tab) -> bytes:
    try:
        return tab.read()
    except CronError:
        if isinstance(tab, UserTab):
            raise
        return b""
