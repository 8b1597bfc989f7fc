"""``headgate completion`` in real shells: what a person gets who presses Tab."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from headgate.monitor.rules import RULES
from headgate.settings.settings import SETTINGS
from tests.support.environment import PYTHON_PATH
from tests.support.spooling import open_spool
from tests.support.wait import readable
from uploader.cli.main import headgate

SECONDS = 60


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A ``headgate`` on the PATH, with a spool of two devices."""
    with closing(open_spool(tmp_path, spool__path="spool")) as spool:
        spool.site.devices.add(["cam-north", "cam-south", "door"], spool.now(), urgent=False)
        spool.site.devices.revoke(["door"], spool.now())
    config = tmp_path / "headgate.toml"
    config.write_text('[spool]\npath = "spool"\n')
    command = tmp_path / "bin" / "headgate"
    command.parent.mkdir()
    start = "from uploader.cli.main import main; main()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": PYTHON_PATH,
        "HEADGATE_CONFIG": str(config),
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


class Keyboard:
    """A shell on a terminal of its own, and a person who types."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._fd, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def type(self, keys: str, until: str) -> str:
        """What appears after these keys, up to a match of ``until``."""
        os.write(self._fd, keys.encode())
        found, end = "", time.monotonic() + SECONDS
        while not re.search(until, found):
            left = end - time.monotonic()
            assert left > 0, f"{until!r} did not come: {self.seen + found!r}"
            if readable(self._fd, left):
                found += os.read(self._fd, 65536).decode(errors="replace")
        self.seen += found
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait(SECONDS)
        os.close(self._fd)


@pytest.fixture
def bash(environment: dict[str, str]) -> Iterator[Keyboard]:
    found = shutil.which("bash")
    if found is None:
        pytest.skip("bash is not installed")
    keyboard = Keyboard([found, "--norc", "--noprofile", "-i"], environment)
    try:
        keyboard.type("PS1='ready> '; bind 'set enable-bracketed-paste off'\n", r"\nready> ")
        keyboard.type('eval "$(headgate completion bash)"\n', r"\nready> ")
        yield keyboard
    finally:
        keyboard.close()


def test_bash_completes_commands_settings_and_devices(bash: Keyboard) -> None:
    for typed, completed in (
        ("headgate ver\t", "headgate verify "),
        ("headgate drain --until\t", "headgate drain --until-empty "),
        ("headgate --set uplink.ord\t", "headgate --set uplink.order="),
        ("headgate device revoke cam-s\t", "headgate device revoke cam-south "),
    ):
        # A bar at its end and a # at its begin, so that the shell shows the line and runs nothing.
        shown = bash.type(f"{typed}|\x01#\n", r"\nready> ")
        assert f"#{completed}|" in re.sub(r"[\r\x08]", "", shown), shown


def test_fish_completes_with_the_script(environment: dict[str, str]) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed (.ci/run installs it)")
    script = (
        "headgate completion fish | source; complete -C 'headgate ver'; "
        "complete -C 'headgate device revoke cam-'"
    )
    done = subprocess.run(
        [fish, "--no-config", "-c", script], env=environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    names = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert names == ["verify", "cam-north", "cam-south"], done.stderr


def test_zsh_completes_with_the_script(environment: dict[str, str]) -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("zsh is not installed (.ci/run installs it)")
    keyboard = Keyboard([zsh, "-f", "-i"], environment)
    try:
        keyboard.type('autoload -Uz compinit && compinit -u -D; echo be""gun\n', r"begun\r")
        keyboard.type('eval "$(headgate completion zsh)"; echo lo""aded\n', r"loaded\r")
        keyboard.type("headgate ver\t", r"headgate verify ")
    finally:
        keyboard.close()


def offered(*words: str) -> list[str]:
    """What is offered for the last word."""
    made = get_completion_class("bash")
    assert made is not None
    asked = made(headgate, {}, "headgate", "_HEADGATE_COMPLETE")
    return [str(item.value) for item in asked.get_completions(list(words[:-1]), words[-1])]


def test_settings_and_alerts_are_offered_by_name() -> None:
    named = [setting.name for setting in SETTINGS if setting.section == "s3"]
    assert offered("--set", "s3.") == [f"{name}=" for name in named]
    codes = [rule.code for rule in RULES if rule.code.startswith("disk")]
    assert offered("alert", "silence", "disk") == codes


def test_a_spool_that_cannot_be_read_offers_nothing_and_says_nothing(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HEADGATE_CONFIG", environment["HEADGATE_CONFIG"])
    assert offered("device", "revoke", "cam") == ["cam-north", "cam-south"]
    (tmp_path / "headgate.toml").write_text('[spool]\npath = "nowhere"\n')
    assert offered("device", "revoke", "cam") == []
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "headgate.toml").write_text("no toml")
    assert offered("device", "revoke", "cam") == []
    assert capfd.readouterr() == ("", "")
