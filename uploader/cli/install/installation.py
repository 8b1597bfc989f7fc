"""The steps that install Headgate, and those that take it out again, in their order."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headgate.host import mounts
from headgate.host.addresses import address_of
from headgate.host.users import user_name
from headgate.settings import load
from headgate.settings.load import read_file
from headgate.settings.settings import Settings, SettingsError, combine
from headgate.spool.disk.layout import FOLDERS
from uploader.cli import completions
from uploader.cli.install import accounts, systemd
from uploader.cli.install import steps as step
from uploader.cli.install.layout import (
    COMMANDS,
    COMPLETIONS,
    CONFIG,
    CREDENTIALS,
    HOME,
    IDENTITIES,
    LOGS,
    OPTIONAL,
    PACKAGE,
    RECEIVER_UNIT,
    SECRETS,
    TIMERS,
    USER,
    WORKER_UNIT,
    InstallPlan,
    Placed,
    placed,
    render,
)
from uploader.cli.install.release import Release
from uploader.cli.install.steps import InstallError, Owner, Step

OURS_IF_EMPTY = (
    "/usr/local/lib/systemd/system",
    "/usr/local/lib/systemd",
    "/usr/local/lib/sysusers.d",
    "/usr/local/lib/tmpfiles.d",
    "/usr/local/share/man/man1",
    "/usr/local/share/bash-completion/completions",
    "/usr/local/share/bash-completion",
    "/usr/local/share/zsh/site-functions",
    "/usr/local/share/zsh",
    "/usr/local/share/fish/vendor_completions.d",
    "/usr/local/share/fish",
)
"""Folders that may be there for us alone."""
SYSUSERS = "sysusers.d/headgate.conf"
"""The accounts, for systemd, which makes them again where /etc was reset."""


def settings_of(file: Path, template: str) -> Settings:
    """What the settings file says, or the one that will be; InstallError with its faults."""
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else template
        beside = load.secrets_beside(file)
        return combine(tomllib.loads(text), file, {}, {}, file.parent, read_file, beside)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InstallError(f"{file}: {error}; nothing was changed") from error
    except SettingsError as error:
        raise InstallError(f"{error}; correct {file}; nothing was changed") from error


def plan_of(prefix: Path, user: str, config: str, settings: Settings) -> InstallPlan:
    """The plan that follows from the settings."""
    files = (settings.log.file, settings.metrics.textfile)
    written = {str(Path(file).parent) for file in files if file}
    return InstallPlan(
        str(prefix),
        user,
        config,
        str(settings.spool.path),
        settings.uplink.interval,
        tuple(sorted(written)),
        tuple(str(one.path) for one in settings.intake.folders),
        tuple(one.unit for one in OPTIONAL if one.bind and _is_low(settings.value(one.bind))),
    )


def packaged_plan(template: str) -> InstallPlan:
    """The plan of the files in a Debian package: that of the settings it comes with."""
    settings = settings_of(Path("/nonexistent"), template)
    return plan_of(Path(PACKAGE), USER, CONFIG, settings)


def _is_low(bind: str) -> bool:
    """Whether only root, or who has the right to it, may listen on this port (capabilities(7))."""
    return address_of(bind).port < 1024


@dataclass(frozen=True)
class Installation:
    """One installation below ``root``; ``root`` is / but for a tree that is being filled."""

    root: Path
    plan: InstallPlan
    release: Release
    settings: Settings

    def at(self, path: str) -> Path:
        """The path below ``root`` of a path of the machine."""
        return self.root / path.lstrip("/")

    @cached_property
    def remembered(self) -> Path:
        """The file that remembers what was installed."""
        return self.at(f"{self.plan.prefix}/installed.json")

    def before(self) -> Mapping[str, str]:
        """The digests of the files as they were installed last, by path."""
        try:
            said = json.loads(self.remembered.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _owner(self, user: str, group: str) -> Owner:
        def number(look: Callable[[Path, str], int | None], name: str) -> int | None:
            return 0 if name == "root" else look(self.root, name)

        return Owner(
            lambda: number(accounts.user_id, user),
            lambda: number(accounts.group_id, group),
            f"{user}:{group}",
        )

    def check_spool(self) -> None:
        """InstallError unless the spool's folder is ours to give away: new, empty, or a spool."""
        path, plan = self.at(self.plan.spool), self.plan
        no = mounts.of_the_system(plan.spool)
        if not no and not (path / "state").is_dir():
            no = mounts.foreign(path, FOLDERS)
        if not no and self.root == Path("/") and path.is_dir():
            owner = user_name(path.stat().st_uid)
            if owner not in ("", "root", plan.user, plan.receiver):
                no = (
                    f"{path} belongs to {owner}: choose another folder in spool.path, or give this "
                    f"one away with chown -R {plan.user}:{plan.group} {path}"
                )
        if no:
            raise InstallError(f"{no}; nothing was changed")

    def account_steps(self) -> list[Step]:
        """The group, and the two users that share it."""
        plan, root = self.plan, self.root
        described = render(plan, SYSUSERS, self.release.files()[SYSUSERS])
        return [
            step.command(
                f"the group {plan.group}",
                lambda: accounts.group_id(root, plan.group) is None,
                accounts.new_group(root, plan.group, described),
            ),
            *(
                step.command(
                    f"the user {name} ({what})",
                    lambda name=name: accounts.user_id(root, name) is None,  # type: ignore[misc]
                    accounts.new_user(root, name, plan.group, home, described),
                )
                for name, home, what in (
                    (plan.user, HOME, "sends; reads the AWS credentials"),
                    (plan.receiver, "/nonexistent", "receives; cannot read them"),
                )
            ),
        ]

    def folder_steps(self) -> list[Step]:
        """Folders with their owners; the spool's own are set-group-ID."""
        plan = self.plan
        sender = self._owner(plan.user, plan.group)
        credentials = self.at(f"{HOME}/.aws/credentials")
        kept = step.file(credentials, CREDENTIALS.encode(), sender, 0o600)
        secrets = self.at(plan.config).with_name(load.SECRETS)
        hidden = step.file(secrets, SECRETS.encode(), sender, 0o600)
        spool = self.at(plan.spool)
        return [
            step.folder(self.at(HOME), sender, 0o750),
            step.folder(self.at(f"{HOME}/.aws"), sender, 0o700),
            Step(kept.what, lambda: not credentials.exists(), kept.do),
            step.folder(self.at(IDENTITIES), sender, 0o2770),
            step.folder(spool, sender, 0o2770),
            *self._adopt(spool),
            step.folder(self.at(LOGS), sender, 0o750),
            step.folder(self.at(plan.config).parent, self._owner("root", "root"), 0o755),
            Step(hidden.what, lambda: not os.path.lexists(secrets), hidden.do),
        ]

    def _adopt(self, spool: Path) -> list[Step]:
        """A spool that was left by an installation whose users had other numbers."""
        plan = self.plan

        def group() -> int | None:
            return accounts.group_id(self.root, plan.group)

        def needed() -> bool:
            state = spool / "state"
            return state.is_dir() and state.lstat().st_gid != group()

        return [step.adopted(spool, self._owner(plan.user, plan.group), needed)]

    def file_steps(self) -> list[Step]:
        """The files of deploy/, with this installation's names, and links to the commands."""
        if self.release.packaged:
            return self._differing()
        plan, texts, before = self.plan, self.release.files(), self.before()
        steps = []
        root_owned = self._owner("root", "root")
        shared = self._owner("root", plan.group)
        for one in placed(plan, list(texts)):
            data = render(plan, one.source, texts[one.source]).encode()
            target = self.at(one.target)
            if not one.kept:
                steps.append(step.file(target, data, root_owned, 0o644))
                continue
            secret = one.source == "headgate.toml"  # a mail server's password may stand in it
            owner, mode = (shared, 0o640) if secret else (root_owned, 0o644)
            steps.append(step.conffile(target, data, owner, mode, before.get(f"/{one.target}")))
        for shell, path in COMPLETIONS.items():
            script = completions.script_for(shell).encode()
            steps.append(step.file(self.at(f"/{path}"), script, root_owned, 0o644))
        for name in COMMANDS:
            steps.append(
                step.symbolic(self.at(f"/usr/local/bin/{name}"), f"{plan.prefix}/bin/{name}")
            )
        return steps

    def _replacing(self) -> Iterator[tuple[Placed, str, bool]]:
        """Files whose places below /usr/local precede those of a package, with the texts of this
        site, and whether the package has the same."""
        texts = self.release.files()
        packaged = packaged_plan(texts["headgate.toml"])
        for one in placed(self.plan, list(texts)):
            if not one.kept:
                text = render(self.plan, one.source, texts[one.source])
                yield one, text, text == render(packaged, one.source, texts[one.source])

    def _differing(self) -> list[Step]:
        """Where dpkg brought the files: those of which the settings want another text (another
        interval, another folder); and who may read the settings."""
        owner = self._owner("root", "root")
        steps = []
        for one, text, same in self._replacing():
            target = self.at(one.target)
            if same:
                back = step.absent(target)
                steps.append(Step(f"no {target}, so that the package's own counts",
                                  back.needed, back.do))  # fmt: skip
            else:
                steps.append(step.file(target, text.encode(), owner, 0o644))
        config = self.at(self.plan.config)
        if config.is_file():
            shared = self._owner("root", self.plan.group)
            steps.append(step.file(config, config.read_bytes(), shared, 0o640))
        return steps

    def remember_steps(self) -> list[Step]:
        """Write down what the files were that people may edit; dpkg does that for its own."""
        if self.release.packaged:
            return []
        plan, texts = self.plan, self.release.files()
        kept = {
            f"/{one.target}": step.digest(render(plan, one.source, texts[one.source]).encode())
            for one in placed(plan, list(texts))
            if one.kept
        }
        data = (json.dumps(kept, indent=2) + "\n").encode()
        return [step.file(self.remembered, data, self._owner("root", "root"), 0o644)]

    def removal(self) -> list[Step]:
        """Everything but the spool; the environment last, if make install made it. Of a Debian
        package, what the settings added to it: the rest is dpkg's to remove."""
        plan, texts = self.plan, self.release.files()
        steps: list[Step] = []
        for unit in (*TIMERS, *(one.unit for one in OPTIONAL), WORKER_UNIT):
            steps += systemd.disabled(self.root, unit)
        if self.release.packaged:
            steps += [step.absent(self.at(one.target)) for one, _, _ in self._replacing()]
            return steps + [step.absent_if_empty(self.at(name)) for name in OURS_IF_EMPTY]
        steps += systemd.disabled(self.root, RECEIVER_UNIT)
        for one in placed(plan, list(texts)):
            target = self.at(one.target)
            steps += [step.absent(target), step.absent(target.with_name(f"{target.name}.dist"))]
        alone = [f"/usr/local/bin/{name}" for name in COMMANDS]
        alone += [f"/{path}" for path in COMPLETIONS.values()]
        steps += [step.absent(self.at(path)) for path in alone]
        steps += [
            *(step.absent_if_empty(self.at(name)) for name in OURS_IF_EMPTY),
            step.absent(self.at(plan.config).with_name(load.SECRETS)),
            step.absent_if_empty(self.at(plan.config).parent),
            step.absent(self.at(f"{HOME}/.aws")),
            step.absent(self.at(LOGS)),
            step.absent(self.at(IDENTITIES)),
            step.absent_if_empty(self.at(HOME)),
        ]
        root = self.root
        steps += [
            step.command(
                f"the user {name}",
                lambda name=name: accounts.user_id(root, name) is not None,  # type: ignore[misc]
                accounts.gone_user(root, name),
            )
            for name in (plan.receiver, plan.user)
        ]
        steps.append(
            step.command(
                f"the group {plan.group}",
                lambda: accounts.group_id(root, plan.group) is not None,
                accounts.gone_group(root, plan.group),
            )
        )
        if self.release.versioned:
            steps.append(step.absent(self.at(plan.prefix)))
        return [*steps, step.absent(self.remembered)]
