"""``headgate install``: install this environment as a service on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click

from headgate.host.systemd import is_active, is_running
from headgate.monitor.checks import images_word
from headgate.settings.settings import Settings
from headgate.spool import schemas
from headgate.spool.site.audit import Action
from uploader.cli.cron import entry as crontab_line
from uploader.cli.cron import systemd_timer
from uploader.cli.cron.crontabs import FileTab, Tab, UserTab
from uploader.cli.help_epilog import ending
from uploader.cli.install import release as releases
from uploader.cli.install import systemd
from uploader.cli.install.installation import Installation, plan_of, settings_of
from uploader.cli.install.layout import (
    CONFIG,
    CRON_FILE,
    HOME,
    OPTIONAL,
    PACKAGE,
    RECEIVER_UNIT,
    TIMERS,
    USER,
    WORKER_UNIT,
    InstallPlan,
    render,
)
from uploader.cli.install.steps import InstallError, Step, carry_out, run
from uploader.cli.main import Context, fail, print_text

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(
    epilog=ending(
        "headgate install --dry-run",
        "headgate install --schedule timer  # systemd's timers instead of cron",
        "headgate install  # after a change of uplink.interval",
    )
)
@click.option(
    "--prefix",
    metavar="DIR",
    type=FOLDER,
    help="Where this environment is installed (detected by default).",
)
@click.option("--user", default=USER, show_default=True, metavar="NAME",
              help="The uploader's user and group; the receiver is NAME-receiver.")  # fmt: skip
@click.option("--schedule", type=click.Choice(["cron", "timer", "none"]),
              help="What starts the runs (default: as it is now, else cron).")  # fmt: skip
@click.option("--root", metavar="DIR", type=FOLDER, default=Path("/"),
              help="Install into DIR instead of this machine; nothing is started.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be changed, and change nothing.")
@click.pass_obj
def command(
    context: Context,
    prefix: Path | None,
    user: str,
    schedule: str | None,
    root: Path,
    dry_run: bool,
) -> None:
    """Install this as a service on this machine.

    Creates users, folders, settings, units, logrotate rules and commands. You can run it again at
    any time, and should after upgrading: existing settings stay. A version that fails to accept a
    test image is not installed.
    """
    os.umask(0o022)  # folders on the way to these files are everybody's to pass through
    try:
        _install(context, prefix, user, schedule, root.absolute(), dry_run)
    except InstallError as error:
        fail(str(error))


def _too_new(spool: Path) -> str:
    """``schemas.too_new``, asked by a process of the spool's owner: its folders are not root's."""
    if os.geteuid() != 0 or not (spool / "state").is_dir() or spool.stat().st_uid == 0:
        return schemas.too_new(spool)
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "headgate.spool.schemas", str(spool)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(
            f"{spool} cannot be looked at as its owner ({error}); nothing was changed"
        ) from error
    return ran.stdout.strip()


def _install(
    context: Context,
    prefix: Path | None,
    user: str,
    schedule: str | None,
    root: Path,
    dry_run: bool,
) -> None:
    if os.geteuid() != 0 and not dry_run:
        raise InstallError(
            "this creates users and writes to /etc: run it with sudo, or with --dry-run"
        )
    _refuse_a_checkout(root, dry_run)
    config = str(Path(context.config or CONFIG).absolute())
    release = releases.this(prefix)
    template = render(InstallPlan(config=config), "headgate.toml", release.files()["headgate.toml"])
    settings = settings_of(root / config.lstrip("/"), template)
    installation = Installation(
        root, plan_of(release.prefix, user, config, settings), release, settings
    )
    fresh = not installation.at(config).exists()
    unset = fresh or (release.packaged and not settings.goes_to)
    _refuse_a_second(installation)
    installation.check_spool()
    if newer := _too_new(installation.at(installation.plan.spool)):
        raise InstallError(f"{newer}; nothing was changed")
    if not dry_run and root == Path("/") and not release.packaged:
        releases.try_out(release, None if fresh else Path(config))
    before = release.previous()
    done = _say_and_do(installation, dry_run)
    wanted = schedule or ("timer" if systemd_timer.enabled(root) else "cron")
    done += _start(installation, before, dry_run, changed=done > 0)
    done += _other_ways(installation, dry_run)
    done += _schedule(installation, wanted, schedule is not None, dry_run)
    if not dry_run:
        carry_out(release.old_versions(before), dry_run=False, say=lambda _: None)
    if not done:
        print_text("everything is as it should be")
    if unset and not dry_run:
        print_text(_what_next(installation))
    if done and not dry_run and root == Path("/"):
        context.record(settings, Action.INSTALL, release.previous() or "")


def _refuse_a_checkout(root: Path, dry_run: bool) -> None:
    """A service must not depend on a developer's folder."""
    if root == Path("/") and not dry_run and releases.is_checkout():
        raise InstallError(
            "this is a checkout: make install creates a separate environment, and "
            "/opt/headgate/bin/headgate uninstall removes it"
        )


def _refuse_a_second(installation: Installation) -> None:
    """Two installations would share users, settings and the spool."""
    release, root = installation.release, installation.root
    if release.packaged and (installation.plan.user, installation.plan.config) != (USER, CONFIG):
        raise InstallError(
            f"this is the Debian package's Headgate, whose users are {USER} and {USER}-receiver, "
            f"and whose settings are in {CONFIG}: leave --user and --config out"
        )
    if not release.packaged and (root / PACKAGE.lstrip("/") / "bin/headgate").exists():
        raise InstallError(
            "the Debian package headgate is installed here: apt-get remove headgate, which leaves "
            "the settings and the spool, then call this again; nothing was changed"
        )


def _say_and_do(installation: Installation, dry_run: bool) -> int:
    release = installation.release
    steps: list[Step] = [
        *installation.account_steps(),
        *installation.folder_steps(),
        *installation.file_steps(),
        *release.steps(),
        *installation.remember_steps(),
    ]
    return carry_out(steps, dry_run=dry_run, say=_say(dry_run))


def _say(dry_run: bool) -> Callable[[str], None]:
    word = "would make" if dry_run else "made"
    return lambda what: print_text(f"{word}: {what}")


def _start(installation: Installation, before: str | None, dry_run: bool, *, changed: bool) -> int:
    """The receiver runs, and is of this version. Whether a package's starts is up to dpkg's scripts
    and the administrator; it starts again if its files have ``changed``."""
    root, release = installation.root, installation.release
    running = is_running(root) and is_active(RECEIVER_UNIT)
    switched = before is not None and before != release.previous()
    if not dry_run:
        systemd.reload(root)
    again = switched or changed if release.packaged else switched or not release.versioned
    if running and not dry_run and again:
        releases.restart(release, before, installation.settings.receiver.bind)
        print_text("made: the receiver runs again, of this version")
    if switched and not dry_run and is_running(root):
        for unit in (WORKER_UNIT, *(one.unit for one in OPTIONAL)):
            if is_active(unit):
                run(["systemctl", "restart", unit])
                print_text(f"made: {unit} runs again, of this version")
    steps = [] if release.packaged else systemd.enabled(root, RECEIVER_UNIT)
    done = carry_out(steps, dry_run=dry_run, say=_say(dry_run))
    if done and is_running(root) and not dry_run:
        releases.expect_receiver(installation.settings.receiver.bind)
    if not is_running(root) and done and not dry_run and root == Path("/"):
        user = installation.plan.receiver
        print_text(
            "note: systemd does not run here; keep the receiver running under your supervisor:\n"
            f"  runuser -u {user} -- {installation.plan.prefix}/bin/headgate-receiver"
        )
    return done


def _other_ways(installation: Installation, dry_run: bool) -> int:
    """FTP, mail and watched folders run if, and only if, their settings say so."""
    done = 0
    for one in OPTIONAL:
        wanted = bool(installation.settings.value(one.setting))
        if wanted and one.package and importlib.util.find_spec(one.package) is None:
            print_text(
                f"note: {one.setting} is set, and the packages for {one.way} are not installed: "
                f"make install EXTRAS={one.extra}"
            )
            wanted = False
        steps = (systemd.enabled if wanted else systemd.disabled)(installation.root, one.unit)
        done += carry_out(steps, dry_run=dry_run, say=_say(dry_run))
    return done


def _schedule(installation: Installation, wanted: str, asked: bool, dry_run: bool) -> int:
    """Cron or the timers start the runs, and never both."""
    root, say = installation.root, _say(dry_run)
    if wanted == "timer":
        done = _no_cron(installation, dry_run)
        for unit in TIMERS:
            done += carry_out(systemd.enabled(root, unit), dry_run=dry_run, say=say)
        return done
    done = 0
    for unit in TIMERS:
        done += carry_out(systemd.disabled(root, unit), dry_run=dry_run, say=say)
    if wanted == "none":
        return done + _no_cron(installation, dry_run)
    if root != Path("/") or not installation.settings.goes_to:
        if asked:
            print_text("note: cron's lines go in when the bucket is set: headgate cron install")
        return done
    tab = FileTab(Path(CRON_FILE))
    before = tab.read()
    there = crontab_line.find(before)
    if not there and not asked:
        return done  # it was removed by hand, presumably for a reason
    if dry_run:
        return done if there else done + 1
    program = f"{installation.plan.prefix}/bin/headgate"
    ran = subprocess.run(
        [program, "--config", installation.plan.config, "cron", "install"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode or tab.read() != before:
        print_text((ran.stdout + ran.stderr).rstrip())
        done += 1
    if ran.returncode:
        raise InstallError("cron's lines are not in (see above); then: headgate cron install")
    return done


def _no_cron(installation: Installation, dry_run: bool, *, for_timers: bool = True) -> int:
    """No line of ours in cron's tabs, and for the timers no file of our name in /etc/cron.d."""
    done = 0
    tabs: list[Tab] = [FileTab(installation.at(CRON_FILE))]
    users: list[Tab] = [UserTab(installation.plan.user)] if installation.root == Path("/") else []
    for tab in (*tabs, *users):
        try:
            content = tab.read()
        except crontab_line.CronError:
            continue  # no cron, no line
        own = isinstance(tab, FileTab) and content  # while it is there no timer starts
        if not own and not crontab_line.find(content):
            continue
        left = crontab_line.take_out(content)
        others = crontab_line.has_jobs(left)
        if own and others and for_timers:
            raise InstallError(f"{tab.name} has other lines as well: move them to another file")
        done += 1
        if not dry_run:
            tab.write(b"" if own and not others else left)
        _say(dry_run)(f"no line of Headgate in {tab.name}")
    return done


def _what_next(installation: Installation) -> str:
    plan = installation.plan
    return (
        "\nNow:\n"
        f"  1. name the bucket, and how much of the link images may use, in {plan.config}\n"
        f"  2. put the credentials into {HOME}/.aws/credentials\n"
        "  3. headgate doctor              # shows what is still wrong, and how to fix it\n"
        "  4. headgate cron install        # starts the runs\n"
        "  5. headgate device add cam-01   # prints the camera's token"
    )


@click.command(epilog=ending("headgate uninstall --dry-run", "headgate uninstall"))
@click.option(
    "--prefix",
    metavar="DIR",
    type=FOLDER,
    help="Where this environment is installed (detected by default).",
)
@click.option(
    "--user",
    default=USER,
    show_default=True,
    metavar="NAME",
    help="The user given at installation.",
)
@click.option("--root", metavar="DIR", type=FOLDER, default=Path("/"),
              help="Uninstall from DIR instead of this machine.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@click.pass_obj
def uninstall(context: Context, prefix: Path | None, user: str, root: Path, dry_run: bool) -> None:
    """Remove everything except the spool.

    Removes users, units, cron entries, settings, credentials, logs, and the program itself. Of the
    Debian package it removes what `headgate install` and `headgate cron install` added; apt-get
    removes the rest.
    """
    try:
        if os.geteuid() != 0 and not dry_run:
            raise InstallError("this removes users and files in /etc: run it with sudo")
        root = root.absolute()
        _refuse_a_checkout(root, dry_run)
        config = str(Path(context.config or CONFIG).absolute())
        release = releases.this(prefix)
        template = release.files()["headgate.toml"]
        try:
            settings = settings_of(root / config.lstrip("/"), template)
        except InstallError as error:  # settings that nothing can read are no reason to stay
            print_text(f"note: {error}; as if it were not there", err=True)
            settings = settings_of(Path("/nonexistent"), template)
        plan = plan_of(release.prefix, user, config, settings)
        installation = Installation(root, plan, release, settings)
        _tell_what_waits(settings, root)
        word = "would remove" if dry_run else "removed"
        _no_cron(installation, dry_run, for_timers=False)
        carry_out(
            installation.removal(), dry_run=dry_run, say=lambda what: print_text(f"{word}: {what}")
        )
        systemd.reload(root)
    except InstallError as error:
        fail(str(error))
    if release.packaged:
        print_text("apt-get purge headgate removes settings, credentials and logs as well")
    elif not release.versioned:
        print_text(f"{release.environment} was not made by make install, and stays")
    print_text(f"the spool and its images stay: {installation.at(plan.spool)}")


def _tell_what_waits(settings: Settings, root: Path) -> None:
    new = root / str(settings.spool.path).lstrip("/") / "new"
    waiting = sum(1 for path in new.rglob("*") if path.is_file()) if new.is_dir() else 0
    if waiting:
        print_text(
            f"note: {images_word(waiting)} still waiting, which stay in the spool; "
            "headgate drain --until-empty sends them first"
        )
