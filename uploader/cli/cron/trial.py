"""Whether a run works in the bare environment that cron gives it, tried before cron has it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headgate.host.exit_codes import Exit
from headgate.settings.load import load
from headgate.settings.settings import SETTINGS, Settings, SettingsError
from uploader.cli.cron.entry import CronError
from uploader.wire.errors import SendError

PATH = "/usr/bin:/bin"  # what Debian's cron gives (crontab(5))
TIMEOUT_SECONDS = 120
CONNECT_SECONDS = 5.0  # to a role's credentials


@dataclass(frozen=True, slots=True)
class Reach:
    """What boto3 finds in one environment: whose key, and where it leads."""

    access_key: str
    method: str  # botocore's word for where the credentials came from
    region: str
    bucket: str  # its URL, or that of another destination


def bare_environment(account: pwd.struct_passwd, variables: Mapping[str, str]) -> dict[str, str]:
    """What cron sets, and what the tab's own lines set on top."""
    return {
        "HOME": account.pw_dir,
        "LOGNAME": account.pw_name,
        "SHELL": "/bin/sh",
        "PATH": PATH,
        **variables,
    }


def reach(settings: Settings) -> Reach:
    """What boto3 finds in this very environment; CronError where that is not enough to send."""
    if settings.destination.kind == "http":
        return Reach("", "destination.token", "", settings.destination.url)
    from uploader.s3.endpoint import open_access  # imports boto3, which show and remove do without

    try:
        access = open_access(settings, CONNECT_SECONDS)
    except SendError as error:
        raise CronError(error.message) from error
    key = str(access.credentials.get_frozen_credentials().access_key)
    return Reach(key, str(access.credentials.method), access.region, access.base)


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries one line as ``account`` with ``environment``; nothing is installed or sent."""

    command: str  # for the shell
    headgate: str
    config: str
    account: pwd.struct_passwd
    environment: Mapping[str, str]

    def check(self, here: Settings) -> None:
        """CronError with the first reason why cron could not do what this shell can."""
        self._compare_settings(here)
        self._compare_reach(here)
        ran = self._run(["/bin/sh", "-c", f"{self.command} --dry-run"])
        if ran.returncode not in (Exit.OK, Exit.LOCKED):
            said = (ran.stderr.strip() or ran.stdout.strip() or "it said nothing").splitlines()
            raise CronError(
                f"as {self.account.pw_name}, in cron's environment, this fails (exit code "
                f"{ran.returncode}): {self.command} --dry-run: {said[-1]}"
            )

    def _compare_settings(self, here: Settings) -> None:
        try:
            there = load(self.config, environment=self.environment)
        except SettingsError as error:
            raise CronError(f"cron's runs could not start: {error}") from error
        lost = [
            f"{setting.name} comes from {here.origin[setting.name]}"
            if setting.secret
            else f"{setting.name} is {here.written[setting.name]!r} here "
            f"(from {here.origin[setting.name]}) and {there.written[setting.name]!r} under cron"
            for setting in SETTINGS
            if here.value(setting.name) != there.value(setting.name)
        ]
        if lost:
            raise CronError(
                f"settings that exist only in this shell: {'; '.join(lost)}; "
                f"write them into {self.config}"
            )

    def _compare_reach(self, here: Settings) -> None:
        ran = self._run([self.headgate, "--config", self.config, "cron", "reach"])
        files = f"{self.account.pw_dir}/.aws/credentials (and config)"
        if ran.returncode != 0:
            said = (ran.stderr.strip() or f"exit code {ran.returncode}").splitlines()[-1]
            only = sorted(name for name in os.environ if name.startswith("AWS_"))
            hint = f" (only in this shell: {', '.join(only)}; {files} is for cron)" if only else ""
            raise CronError(
                f"as {self.account.pw_name}, in cron's environment: "
                f"{said.removeprefix('headgate: ')}{hint}"
            )
        if self.account.pw_uid != os.geteuid():
            return  # what root's shell reaches says nothing about another user
        there = Reach(**json.loads(ran.stdout))
        try:
            now = reach(here)
        except CronError:
            return  # cron reaches more than this shell does
        lost = [
            f"{what} is {ours} here and {theirs} under cron"
            for what, ours, theirs in (
                ("the region", now.region, there.region),
                ("the bucket", now.bucket, there.bucket),
            )
            if ours != theirs
        ]
        # Keys that a role lends differ from call to call, so only a shell's own are compared.
        if now.method == "env" and now.access_key != there.access_key:
            lost.append("AWS_ACCESS_KEY_ID is set here and cron's runs would use another key")
        if lost:
            raise CronError(f"{'; '.join(lost)}; put into {files} what the runs are to use")

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        become: dict[str, Any] = {}
        if self.account.pw_uid != os.geteuid():
            become = {
                "user": self.account.pw_uid,
                "group": self.account.pw_gid,
                "extra_groups": os.getgrouplist(self.account.pw_name, self.account.pw_gid),
            }
        try:
            return subprocess.run(
                command,
                env=dict(self.environment),
                cwd=self.environment["HOME"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_SECONDS,
                check=False,
                **become,
            )
        except subprocess.TimeoutExpired as error:
            raise CronError(f"{command[-1]} did not end within {TIMEOUT_SECONDS} s") from error
        except OSError as error:
            raise CronError(
                f"{self.account.pw_name} cannot start {error.filename or command[0]}: "
                f"{error.strerror}"
            ) from error
