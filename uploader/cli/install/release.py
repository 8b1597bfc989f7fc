"""The environment that is to be installed: tried, made the one in use, and taken back if it fails.

``make install`` makes each version an environment of its own in ``PREFIX/versions``; ``PREFIX/bin``
is a link to the one in use, so that a new version comes, and an old one returns, in one instant.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from headgate.host.addresses import Address, NoAnswer, address_of, free_port, request
from uploader.cli.install import systemd
from uploader.cli.install.layout import PACKAGE, RECEIVER_UNIT
from uploader.cli.install.steps import InstallError, Step, absent, run, symbolic

TRIAL_SECONDS = 60
HEALTHY_SECONDS = 60
VAIN_STARTS = 3
_GIF = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
"""The smallest image there is: one white pixel."""


CHECKOUT = Path(__file__).parents[3]


def is_checkout() -> bool:
    """Whether this runs from a developer's files, and not from an environment of its own."""
    return (CHECKOUT / "deploy").is_dir()


@dataclass(frozen=True, slots=True)
class Release:
    """An environment with Headgate in it, and the prefix that it belongs to."""

    environment: Path
    prefix: Path

    @property
    def versioned(self) -> bool:
        """Whether it lies in ``PREFIX/versions`` and is switched to by ``PREFIX/bin``."""
        return self.environment.parent == self.prefix / "versions"

    @property
    def packaged(self) -> bool:
        """Whether dpkg brought it, and the files of deploy/ with it."""
        return self.environment == Path(PACKAGE)

    @property
    def deploy(self) -> Path:
        """The files of deploy/: in a checkout, or as the wheel brought them."""
        return CHECKOUT / "deploy" if is_checkout() else self.environment / "share/headgate"

    def files(self) -> dict[str, str]:
        """The texts of the files of deploy/, by their path below deploy/."""
        found = (path for path in self.deploy.rglob("*") if path.is_file())
        return {
            path.relative_to(self.deploy).as_posix(): path.read_text(encoding="utf-8")
            for path in found
            if path.suffix not in (".json", ".yml") and path.name != "Dockerfile"
        }

    def previous(self) -> str | None:
        """The environment that ``PREFIX/bin`` leads to now; None where it is no link."""
        bin_link = self.prefix / "bin"
        return os.readlink(bin_link) if bin_link.is_symlink() else None

    def steps(self) -> list[Step]:
        """``PREFIX/bin`` leads to this environment."""
        if not self.versioned:
            return []
        return [symbolic(self.prefix / "bin", f"versions/{self.environment.name}/bin")]

    def old_versions(self, before: str | None) -> list[Step]:
        """Versions that may be removed: all but this one and the one before, which a run may still
        be using; none where no other version was in use."""
        if not self.versioned or before is None or before == self.previous():
            return []
        keep = {self.environment.name, Path(before).parent.name}
        versions = sorted((self.prefix / "versions").iterdir())
        return [absent(path) for path in versions if path.name not in keep and path.is_dir()]


def this(prefix: Path | None) -> Release:
    """The release that runs this; InstallError where it is not below the prefix asked for."""
    environment = Path(sys.prefix)
    own = environment.parents[1] if environment.parent.name == "versions" else environment
    if prefix is not None and prefix != own:
        raise InstallError(
            f"this environment is {environment}, not below {prefix}: in a checkout, "
            f"make install PREFIX={prefix} makes one there"
        )
    return Release(environment, own)


def _status(address: Address, method: str, path: str, image: bytes = b"") -> int:
    """The status of one answer of the receiver; 0 for none."""
    try:
        media_type = "image/gif" if image else ""
        return request(address, method, path, image, media_type=media_type, seconds=10)[0]
    except NoAnswer:
        return 0


def try_out(release: Release, config: Path | None) -> None:
    """Start its receiver on a spool of its own, with the site's settings, and let it take an image;
    InstallError if it does not. Nothing that is installed is touched."""
    scratch = release.prefix / f".trial-{secrets.token_hex(4)}"
    scratch.mkdir(mode=0o700)
    address = Address("127.0.0.1", free_port())
    own = ["--config", str(config)] if config is not None else []
    for setting in (
        f"spool.path={scratch}/spool", f"receiver.bind={address}", "receiver.auth=auto",
        "spool.keep_free=0%", "receiver.threads=8", "receiver.processes=1",
    ):  # fmt: skip
        own += ["--set", setting]
    program = release.environment / "bin/headgate-receiver"
    try:
        with (scratch / "log").open("wb") as log:
            trial = subprocess.Popen(
                [program, *own], cwd=scratch, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            _expect_an_image(trial, address, scratch / "log")
        finally:
            trial.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                trial.wait(10)
            trial.kill()
            trial.wait()
        run([str(release.environment / "bin/headgate"), *own, "verify"])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _expect_an_image(trial: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    deadline = time.monotonic() + TRIAL_SECONDS
    while _status(address, "GET", "/healthz") != 200:
        if trial.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise InstallError(f"this version does not start here: {said[-1]}; nothing was changed")
        time.sleep(0.1)
    status = _status(address, "POST", "/images", _GIF)
    if status not in (200, 201):
        raise InstallError(f"this version answers {status} to an image; nothing was changed")


def expect_receiver(bind: str) -> None:
    """InstallError unless the receiver answers at its address, or does so soon."""
    if not _answers(bind):
        raise InstallError(
            f"the receiver does not answer at {bind}: journalctl -u headgate-receiver says why"
        )


def restart(release: Release, before: str | None, bind: str) -> None:
    """Start the receiver of the version now in use; if it does not answer, the one before comes
    back and InstallError says so."""
    run(["systemctl", "restart", RECEIVER_UNIT])
    if _answers(bind):
        return
    why = "journalctl -u headgate-receiver says why"
    if before is None or not release.versioned:
        raise InstallError(f"the receiver does not answer at {bind}; {why}")
    symbolic(release.prefix / "bin", before).do()
    systemd.reload(Path("/"))
    run(["systemctl", "restart", RECEIVER_UNIT])
    again = "the version before runs again" if _answers(bind) else "nor does the one before"
    raise InstallError(f"the new receiver does not answer at {bind}: {again}; {why}")


def _answers(bind: str) -> bool:
    """Whether it does within a minute; not, as soon as systemd has started it three times without
    success (a long recovery is one start)."""
    address = address_of(bind).from_here
    deadline = time.monotonic() + HEALTHY_SECONDS
    before = _restarts()  # systemd goes on counting where a failing one was just replaced
    while time.monotonic() < deadline:
        if _status(address, "GET", "/healthz") == 200:
            return True
        if _restarts() - before >= VAIN_STARTS:
            return False
        time.sleep(0.2)
    return False


def _restarts() -> int:
    return int(run(["systemctl", "show", "-P", "NRestarts", RECEIVER_UNIT]) or 0)
