"""``headgate user`` and ``headgate token``."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from headgate.host import passwords
from headgate.spool.site.audit import Action
from headgate.spool.site.users import Role
from tests.support.environment import PYTHON_PATH, without_settings
from tests.support.paths import ROOT
from tests.support.receiver import HEADGATE
from tests.support.spooling import open_spool
from tests.support.wait import wait_for_exit, wait_until
from uploader.cli.main import headgate

PASSWORD = "several words of it"


def call(root: Path, *words: str, stdin: str = "", code: int = 0) -> str:
    ran = CliRunner().invoke(headgate, ["--config", str(root / "headgate.toml"), *words],
                             input=stdin)  # fmt: skip
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert ran.exit_code == code, ran.output
    assert PASSWORD not in ran.output
    return ran.output


def test_users_are_managed_and_each_change_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "headgate.toml").write_text(f'[spool]\npath = "{tmp_path}/var/spool"\n')
    open_spool(tmp_path).close()
    assert "there is no user" in call(tmp_path, "user", "list")
    call(tmp_path, "user", "add", "anna", "--role", "admin", stdin=PASSWORD + "\nignored\n")
    assert "is a user already" in call(
        tmp_path, "user", "add", "anna", "--role", "viewer", stdin=PASSWORD, code=1
    )
    assert "at least 12" in call(
        tmp_path, "user", "add", "otto", "--role", "viewer", stdin="short", code=1
    )
    assert "at least 12" in call(tmp_path, "user", "password", "anna", stdin="", code=1)
    assert "letters, digits" in call(
        tmp_path, "user", "add", "a b", "--role", "viewer", stdin=PASSWORD, code=1
    )
    call(tmp_path, "user", "role", "anna", "viewer")
    call(tmp_path, "user", "password", "anna", stdin=PASSWORD + " and more")
    (anna,) = json.loads(call(tmp_path, "user", "list", "--json"))
    assert (anna["name"], anna["role"], anna["seen_at"]) == ("anna", "viewer", None)
    assert "password" not in anna and "scrypt" not in str(anna)
    token = call(tmp_path, "token", "add", "prometheus").strip()
    assert token.startswith("hgs_") and "prometheus" in call(tmp_path, "token", "list")
    spool = open_spool(tmp_path)
    try:
        user = spool.site.users.get("anna")
        assert user is not None and user.role is Role.VIEWER
        assert passwords.matches(user.password, PASSWORD + " and more")
        assert "scrypt" not in repr(user)
        assert spool.site.users.may_scrape(token) and not spool.site.users.may_scrape("x")
    finally:
        spool.close()
    call(tmp_path, "token", "remove", "prometheus")
    assert "only this machine" in call(tmp_path, "user", "remove", "anna")
    for words in (("user", "remove", "anna"), ("user", "role", "anna", "admin"),
                  ("user", "password", "anna"), ("token", "remove", "prometheus")):  # fmt: skip
        call(tmp_path, *words, stdin=PASSWORD, code=1)
    lines = json.loads(call(tmp_path, "audit", "--json"))
    assert [line["action"] for line in reversed(lines)] == [
        Action.USER_ADD, Action.USER_ROLE, Action.USER_PASSWORD, Action.TOKEN_ADD,
        Action.TOKEN_REMOVE, Action.USER_REMOVE,
    ]  # fmt: skip
    assert PASSWORD not in str(lines)


def test_at_a_terminal_the_password_is_typed_twice_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "headgate.toml").write_text(f'[spool]\npath = "{tmp_path}/var/spool"\n')
    open_spool(tmp_path).close()
    leader, follower = pty.openpty()
    shown = b""
    command = [sys.executable, "-c", HEADGATE, "--config", str(tmp_path / "headgate.toml"),
               "user", "add", "anna", "--role", "admin"]  # fmt: skip
    ran = subprocess.Popen(
        command, cwd=ROOT, stdin=follower, stdout=follower, stderr=follower,
        env=without_settings() | {"PYTHONPATH": PYTHON_PATH}, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    os.set_blocking(leader, False)

    def asks(for_what: bytes) -> bool:
        nonlocal shown
        with contextlib.suppress(OSError):  # nothing is there yet, or the command has ended
            shown += os.read(leader, 4096)
        return for_what in shown

    for prompt in (b"Password of anna: ", b"Again: "):
        wait_until(lambda prompt=prompt: asks(prompt), f"it asks {prompt!r}", process=ran)
        os.write(leader, PASSWORD.encode() + b"\n")
    wait_for_exit(ran, "the command ends")
    asks(b"may log in")
    os.close(leader)
    assert ran.returncode == 0 and PASSWORD.encode() not in shown
