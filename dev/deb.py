"""``make deb``: a Debian package of the version in this checkout, with the packages of its locks.

It holds an environment in /usr/lib/headgate, for the Debian and the architecture that it is made
on: an environment belongs to one version of Python. Runs before anything is installed, so it uses
the standard library alone; dpkg-buildpackage(1) and debhelper(7) make the package by
``deploy/debian``.
"""

from __future__ import annotations

import argparse
import datetime
import email.utils
import gzip
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from dev import bootstrap, install
from dev.bootstrap import ROOT, Failed, run, say

HOME = Path("/usr/lib/headgate")
"""Where the environment lies once it is installed."""
TOOLS = ("dpkg-buildpackage", "dh")
UNUSED = (
    "pip", "pip-*", "setuptools", "setuptools-*", "pkg_resources", "_distutils_hack",
    "distutils-precedence.pth",  # what installs packages; dpkg does that here
    "apsw/sqlite_extra_binaries",  # SQLite's own programs
    "*.dist-info/direct_url.json",  # where it was built
)  # fmt: skip
"""In an environment, and not in the package."""


def moment() -> float:
    """When this version was made: the time of its commit."""
    said = (
        os.environ.get("SOURCE_DATE_EPOCH")
        or run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]).stdout
    )
    return float(said) if said.strip() else time.time()


def relocate(venv: Path) -> None:
    """Make an environment one that works in ``HOME``, and installs nothing into itself."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for script in (venv / "bin").iterdir():
        if not script.name.startswith("headgate"):
            script.unlink()
            continue
        _, rest = script.read_text().split("\n", 1)
        script.write_text(f"#!{HOME}/bin/python\n{rest}")
    (venv / "bin/python").symlink_to(f"/usr/bin/{python}")
    (venv / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = false\n"
        f"version = {'.'.join(map(str, sys.version_info[:3]))}\n"
    )
    site = venv / "lib" / python / "site-packages"
    unwanted = [path for pattern in UNUSED for path in site.glob(pattern)]
    unwanted += [*venv.rglob("__pycache__"), *site.rglob(".gitignore")]
    unwanted += [venv / name for name in ("lib64", "include", "share/man", install.MADE)]
    unwanted.append(venv / ".gitignore")
    for path in unwanted:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for module in site.rglob("*.py"):
        module.chmod(0o644)  # a wheel may have its examples executable


def lay_out(root: Path, venv: Path) -> None:
    """The files of deploy/ in a package's places (``dev.deb_files``), and what changed."""
    listed = run(["dpkg-query", "--listfiles", "systemd"]).stdout
    units = "usr/lib" if "\n/usr/lib/systemd/system/" in listed else "lib"  # as this release has it
    (site,) = venv.glob("lib/python3*/site-packages")
    own = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "dev.deb_files", str(root), f"{units}/systemd/system"]
    ran = run(command, str(ROOT), own)
    if ran.returncode != 0:
        raise Failed(f"the files of deploy/ cannot be laid out: {bootstrap.last_line(ran.stderr)}")
    docs = root / "usr/share/doc/headgate"
    docs.mkdir(parents=True)
    changes = gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), 9, mtime=0)
    (docs / "changelog.gz").write_bytes(changes)


def debian(folder: Path, version: str) -> None:
    """``debian/``, with what follows from the version and this Python."""
    target = folder / "debian"
    shutil.copytree(ROOT / "deploy" / "debian", target)
    minor = sys.version_info[1]
    control = (target / "control").read_text()
    # An environment works with one version of Python alone.
    own = f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1})"
    (target / "control").write_text(control.replace("PYTHON", own))
    (maintainer,) = re.findall(r"^Maintainer: (.*)$", control, re.MULTILINE)
    when = datetime.datetime.fromtimestamp(moment(), datetime.UTC)
    (target / "changelog").write_text(
        f"headgate ({version}) unstable; urgency=medium\n\n"
        f"  * Version {version}; changelog.gz says what is new.\n\n"
        f" -- {maintainer}  {email.utils.format_datetime(when)}\n"
    )


def check() -> None:
    """Failed unless a package can be made here."""
    if refused := bootstrap.refusal(sys.version_info[:2], sys.executable):
        raise Failed(refused)
    if Path(sys.executable).parent != Path("/usr/bin"):
        raise Failed(f"a package is for Debian's own Python, and this is {sys.executable}")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise Failed(f"there is no {missing[0]}: apt-get install debhelper dpkg-dev, then again")


def build(output: Path, compression: str) -> Path:
    """The package, in ``output``."""
    os.umask(0o022)
    version = install.version()
    with tempfile.TemporaryDirectory(prefix="headgate-deb-", dir="/var/tmp") as scratch:
        folder, work = Path(scratch) / f"headgate-{version}", Path(scratch) / "work"
        work.mkdir()
        venv = folder / "root" / HOME.relative_to("/")
        venv.parent.mkdir(parents=True)
        install.make_environment(venv, work, install.EXTRAS)
        relocate(venv)
        lay_out(folder / "root", venv)
        debian(folder, version)
        say("making the package")
        epoch = str(int(moment()))
        own = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "LC_ALL": "C.UTF-8"}
        own["DEB_COMPRESSION"] = compression
        ran = run(["dpkg-buildpackage", "-b", "-us", "-uc", "-d"], str(folder), own)
        if ran.returncode != 0:
            raise Failed(f"dpkg-buildpackage fails:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        (made,) = Path(scratch).glob("headgate_*.deb")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made, output))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make deb", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="DIR", default=ROOT / "dist")
    parser.add_argument("--fast", action="store_true", help="compress it less")
    given = parser.parse_args()
    try:
        check()
        made = build(given.output.absolute(), "-Zxz -z0" if given.fast else "-Zxz")
    except Failed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("stopped; nothing was made")
        return 130
    say(f"made {made}; apt install {made} installs it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
