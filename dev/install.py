"""``make install``: an environment of its own for this version, then its ``headgate install``.

Runs before anything is installed, so it uses the standard library alone. The version that is in use
is not touched: the new one lies beside it, and is switched to when it has shown that it works.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dev import bootstrap
from dev.bootstrap import ROOT, Failed, run, say

LOCK = ROOT / "requirements.lock"
EXTRAS = ("apprise", "fleet", "ftp", "queue", "smtp")
"""Those that a service may want, each with a lock of its own."""
SHIPPED = ("app", "headgate", "uploader", "deploy")
WITH = ".extras"
MADE = ".made"
"""Written into an environment last; without it the next call recreates it."""


def sources() -> list[Path]:
    """The files that make this version, in order."""
    files = [LOCK, ROOT / "setup.cfg", ROOT / "pyproject.toml", ROOT / "README.md"]
    for folder in SHIPPED:
        files += sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
    # deploy/debian is for a package, deploy/docker for an image: a site's keys may be there.
    others = {"__pycache__", "debian", "docker"}
    return [path for path in files if not others & set(path.relative_to(ROOT).parts)]


def lock_of(extra: str) -> Path:
    """The lock of what an extra brings beside the rest; Failed if there is no such extra."""
    if extra not in EXTRAS:
        raise Failed(f"there is no extra {extra!r}: EXTRAS takes {', '.join(EXTRAS)}")
    return ROOT / f"requirements-{extra}.lock"


def extras_in_use(prefix: Path) -> list[str]:
    """The extras of the installed version, which the next one is to have as well."""
    said = (prefix / "bin").resolve().parent / WITH
    return said.read_text().split() if said.exists() else []


def version() -> str:
    """The version's number."""
    found = re.search(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    return found[1] if found else "0"


def version_name(extras: Sequence[str] = ()) -> str:
    """What this version is called: the same for the same files, extras and the same Python."""
    digest = hashlib.sha256(sys.version.encode())
    for path in [*sources(), *map(lock_of, extras)]:
        digest.update(f"\n{path.relative_to(ROOT)}\n".encode())
        digest.update(path.read_bytes())
    return f"{version()}-{digest.hexdigest()[:10]}"


def locked_setuptools(scratch: Path) -> Path:
    """setuptools alone, by its hash, as the developers' lock names it: it builds the wheel."""
    lock = (ROOT / "requirements-dev.lock").read_text()
    found = re.search(r"^setuptools==.*\n(?:    .*\n)*", lock, re.MULTILINE)
    if found is None:
        raise Failed("requirements-dev.lock names no setuptools")
    file = scratch / "setuptools.lock"
    file.write_text(found[0])
    return file


def out_of_reach(program: Path) -> str:
    """The first folder on the way to a program that others may not pass; empty if there is none."""
    for folder in reversed(program.resolve().parents):
        if not folder.stat().st_mode & 0o001:
            return str(folder)
    return ""


def make_environment(venv: Path, scratch: Path, extras: Sequence[str] = ()) -> None:
    """The locked packages, then Headgate itself, built from a copy: a checkout stays as it is."""
    pip = bootstrap.make_venv(venv, scratch)
    tools = ["--require-hashes", "--target", str(scratch / "tools")]
    tools += ["-r", str(locked_setuptools(scratch))]
    bootstrap.install(pip, "what builds headgate", tools)
    for lock in (LOCK, *map(lock_of, extras)):
        bootstrap.install_locked(pip, lock, scratch / "tools")
    (venv / WITH).write_text("\n".join(extras))
    copy = scratch / "source"
    for path in [*sources(), ROOT / "LICENSE"]:
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    itself = ["--no-deps", "--no-index", "--no-build-isolation", str(copy)]
    bootstrap.install(pip, "headgate itself", itself, PYTHONPATH=str(scratch / "tools"))
    compiled = run([str(venv / "bin" / "python"), "-m", "compileall", "-q", str(venv / "lib")])
    if compiled.returncode not in (0, 1):  # 1: a package's own tests may be for another Python
        raise Failed(f"compileall fails: {bootstrap.last_line(compiled.stderr)}")
    (venv / MADE).write_text("")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make install", description=__doc__)
    parser.add_argument("--prefix", type=Path, default=Path("/opt/headgate"))
    only = "make the environment and the link to it, and nothing else"
    parser.add_argument("--environment-only", action="store_true", help=only)
    more_packages = "with what this extra needs (as the version in use, else none); may be repeated"
    parser.add_argument("--extra", action="append", metavar="NAME", help=more_packages)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--root", metavar="DIR", help="not here: see headgate install --root")
    given, more = parser.parse_known_args()
    prefix = given.prefix.absolute()
    try:
        if given.root is not None:
            raise Failed(
                "make install makes an environment for this machine, and one below another root "
                "would not start there; call make install inside that root, or headgate install "
                "--root DIR for the files alone"
            )
        extras = sorted(set(given.extra or extras_in_use(prefix)))
        venv = prefix / "versions" / version_name(extras)
        if refused := bootstrap.refusal(sys.version_info[:2], sys.executable):
            raise Failed(refused)
        if shut := out_of_reach(Path(sys.executable)):
            raise Failed(
                f"{sys.executable} lies in {shut}, where the users that are to run it cannot pass; "
                "name another: make install PYTHON=/usr/bin/python3"
            )
        if not (venv / MADE).exists():
            if given.dry_run:
                say(f"would make the environment {venv}, then call its headgate install")
                return 0
            make(venv, extras)
        if given.environment_only:
            (prefix / "bin").unlink(missing_ok=True)
            (prefix / "bin").symlink_to(f"versions/{venv.name}/bin")
            return 0
    except Failed as failure:
        say(str(failure))
        return 1
    except OSError as error:
        say(f"{error}; make install writes to {prefix}: call it with sudo, or give another PREFIX")
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(venv, ignore_errors=True)
        say("stopped; nothing was installed")
        return 130
    dry = ["--dry-run"] if given.dry_run else []
    command = [str(venv / "bin" / "headgate"), "install", "--prefix", str(prefix), *dry, *more]
    return os.execv(command[0], command)


def make(venv: Path, extras: Sequence[str]) -> None:
    """The environment; what is not finished is not left behind."""
    started = time.monotonic()
    os.umask(0o022)  # two users run it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    venv.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(venv.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # of two at once the second waits, and finds it done
    if (venv / MADE).exists():
        return
    try:
        with tempfile.TemporaryDirectory(prefix="headgate-") as scratch:
            make_environment(venv, Path(scratch), extras)
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        raise
    say(f"{venv} is ready ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    sys.exit(main())
