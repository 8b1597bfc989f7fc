"""What setup.cfg, the locks and the Makefile say agrees, and every dependency has its reason."""

import configparser
import hashlib
import re
import subprocess

import pytest

from dev import install
from tests.support.paths import ROOT

EXTRA_LOCKS = [f"requirements-{extra}.lock" for extra in ("local", *install.EXTRAS)]


def requirements(section: str, key: str) -> list[tuple[str, str]]:
    """Each requirement of setup.cfg with the comment line before it."""
    found, inside, before = [], False, ""
    current = ""
    for line in (ROOT / "setup.cfg").read_text().splitlines():
        if match := re.fullmatch(r"\[(.+)\]", line):
            current, inside = match[1], False
        elif match := re.fullmatch(r"(\w+) =.*", line):
            inside = current == section and match[1] == key
        elif inside and line.strip():
            text = line.strip()
            if not text.startswith("#"):
                found.append((text, before))
            before = text if text.startswith("#") else ""
    return found


def direct() -> list[tuple[str, str]]:
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg")
    found = requirements("options", "install_requires")
    for extra in extras["options.extras_require"]:
        found += requirements("options.extras_require", extra)
    return found


def test_every_dependency_has_its_reason() -> None:
    assert len(direct()) > 10
    for requirement, reason in direct():
        assert len(reason) > 10, f"{requirement} has no reason before it in setup.cfg"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", *EXTRA_LOCKS])
def test_the_lock_holds_every_package_by_its_hash_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.findall(r"^[a-z0-9][^ ]*", text, re.MULTILINE)
    assert len(packages) > 10
    assert all("==" in package for package in packages)
    assert len(re.findall(r"^[a-z0-9].*\\\n    --hash=sha256:", text, re.MULTILINE)) == len(
        packages
    )
    assert "://" not in text
    assert "index" not in text


def test_the_locks_hold_what_setup_cfg_asks_for() -> None:
    def locked(name: str) -> dict[str, str]:
        text = (ROOT / name).read_text()
        return dict(re.findall(r"^([a-z0-9][\w.-]*)==([^ ]+)", text, re.MULTILINE))

    # One extra is not in the developers' environment: it holds a package that has no wheel.
    everything = locked("requirements-ftp.lock") | locked("requirements-dev.lock")
    for requirement, _ in direct():
        assert re.match(r"[\w-]+", requirement)[0] in everything  # type: ignore[index]
    # What production installs is what was tested.
    for name in ("requirements.lock", *EXTRA_LOCKS):
        assert locked(name).items() <= everything.items()
        assert locked("requirements.lock").items() <= locked(name).items()


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    quiet = {"ready", "ready-to-run", "bench-ready"}  # what the others begin with
    assert set(re.findall(r"^  make (\S+)  ", listed, re.MULTILINE)) == targets - quiet


def test_what_others_wrote_is_as_they_published_it() -> None:
    vendor = ROOT / "app" / "static" / "vendor"
    said = (vendor / "README.md").read_text()
    scripts = sorted(vendor.glob("*.js"))
    assert scripts
    for script in scripts:
        assert hashlib.sha256(script.read_bytes()).hexdigest() in said
        assert (vendor / f"{script.stem}.LICENSE").read_text().strip()
