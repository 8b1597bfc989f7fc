"""What the Python client does on its device: its spool, its settings, its command."""

from __future__ import annotations

import ast
import email.utils
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bad_network import GOOD, BadNetwork, Fault
from tests.support.cameras import PYTHON, ROOT, Gateway, PythonCamera, python_client
from tests.support.environment import without_settings
from tests.support.wait import join

Photo = Callable[[], bytes]
client = python_client()
NOWHERE = 9


def camera(folder: Path, port: int = NOWHERE, token: str = "T", **config: object) -> PythonCamera:
    return PythonCamera(folder / "pictures", port, token, **config)


def safe(document: dict[str, object]) -> None:
    document["safe_to_erase"] = True


def test_it_runs_on_python_3_8_and_needs_nothing_else() -> None:
    tree = ast.parse(PYTHON.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_an_old_python_takes_a_picture(version: str, tmp_path: Path) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"Python {version} is not installed")
    code = (
        f"import sys; sys.path.insert(0, {str(PYTHON.parent)!r}); import headgate_client as h; "
        f"c = h.Client(h.Config(gateway='http://127.0.0.1:9', device='d', spool={str(tmp_path)!r}),"
        " sleep=lambda s: None); c.put(b'picture'); print(c.send().trouble)"
    )
    done = subprocess.run([str(found[0]), "-I", "-c", code], capture_output=True, text=True,
                          timeout=120)  # fmt: skip
    assert "The gateway cannot be reached" in done.stdout, done.stderr


def test_a_picture_that_was_put_survives_whatever_comes_in_between(tmp_path: Path) -> None:
    first = camera(tmp_path)
    first.put(b"one")
    (first.folder / "00000002.picture").write_bytes(b"the power went in the middle of the next")
    (first.folder / "00000002.json.new").write_text("{")
    first.start()
    assert [(p.number, p.size) for p in first.client.spool.pictures()] == [(1, 3)]
    first.put(b"two")
    assert [p.number for p in first.client.spool.pictures()] == [1, 2]
    assert (first.folder / "00000002.picture").read_bytes() == b"two"


@pytest.mark.parametrize("step", range(8))
def test_a_put_that_fails_at_any_step_leaves_nothing_or_the_whole(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = camera(tmp_path)
    device.put(b"one")
    steps = 0
    real_fsync, real_replace = os.fsync, os.replace

    def fails(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step + 1:
                raise OSError(28, "No space left on device")
            return real(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails(real_fsync))
        patch.setattr(os, "replace", fails(real_replace))
        try:
            device.put(b"two")
            taken = True
        except OSError:
            taken = False
    device.start()
    sizes = [device.client.spool.path(p).read_bytes() for p in device.client.spool.pictures()]
    assert sizes == ([b"one", b"two"] if taken else [b"one"])
    device.put(b"three")
    numbers = [p.number for p in device.client.spool.pictures()]
    assert numbers == sorted(set(numbers))


def test_two_processes_that_put_at_once_get_different_numbers(tmp_path: Path) -> None:
    devices = [camera(tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda d=d: [d.put(b"x%d" % n) for n in range(10)])  # type: ignore[misc]
        for d in devices
    ]
    for thread in threads:
        thread.start()
    join(*threads)
    assert [p.number for p in devices[0].client.spool.pictures()] == list(range(1, 41))


def test_of_two_passes_at_once_the_second_says_so(tmp_path: Path) -> None:
    one, two = camera(tmp_path), camera(tmp_path)
    with one.client.spool.locked("send.lock"), pytest.raises(client.Busy):
        two.client.send()


def test_a_damaged_record_keeps_its_picture_and_blocks_no_other(
    gateway: Gateway, tmp_path: Path, photo: Photo
) -> None:
    device, token = next(gateway.devices)
    network = BadNetwork(gateway.receiver.port)
    sender = camera(tmp_path, network.port, token)
    pictures = [photo(), photo()]
    for picture in pictures:
        sender.put(picture)
    assert sender.send() == ""
    (sender.folder / "00000001.json").write_text("{" + "\0" * 10)
    sender.start()
    assert sender.send() == ""  # it is sent again, and the gateway knows it by bytes and number
    assert list(sender.states().values()) == ["held", "held"]
    assert sorted(p.read_bytes() for p in gateway.images(device)) == sorted(pictures)
    network.close()


def test_it_keeps_a_proved_picture_for_as_long_as_it_is_told(
    gateway: Gateway, tmp_path: Path, photo: Photo
) -> None:
    _, token = next(gateway.devices)
    network = BadNetwork(gateway.receiver.port, lambda _head: Fault(edit=safe))
    sender = camera(tmp_path, network.port, token, keep_seconds=86400)
    sender.put(photo())
    sender.send()
    assert list(sender.states().values()) == ["safe"]
    sender.now -= 30 * 86400  # a clock without a battery
    sender.send()
    assert list(sender.states().values()) == ["safe"]
    sender.now += 86400
    sender.send()
    assert sender.states() == {}
    network.close()


def test_a_full_spool_erases_what_it_may_and_refuses_the_rest(
    gateway: Gateway, tmp_path: Path, photo: Photo
) -> None:
    _, token = next(gateway.devices)
    network = BadNetwork(gateway.receiver.port)
    size = len(photo())
    sender = camera(tmp_path, network.port, token, keep_seconds=1e9, max_bytes=2 * size + 100)
    sender.put(photo())
    network.decide = lambda _head: Fault(edit=safe)
    sender.send()
    network.decide = lambda _head: GOOD
    sender.put(photo())
    sender.send()
    sender.put(photo())  # the first one goes for it
    assert list(sender.states().values()) == ["held", "waiting"]
    with pytest.raises(client.SpoolFull):
        sender.put(photo())
    assert list(sender.states().values()) == ["held", "waiting"]
    network.close()


def test_where_the_settings_say_so_201_erases(
    gateway: Gateway, tmp_path: Path, photo: Photo
) -> None:
    device, token = next(gateway.devices)
    sender = camera(tmp_path, gateway.receiver.port, token, erase="accepted")
    sender.put(photo())
    sender.send()
    assert sender.states() == {} and len(gateway.images(device)) == 1


def test_a_clock_that_was_set_back_makes_no_picture_wait_for_ever(tmp_path: Path) -> None:
    sender = camera(tmp_path)
    sender.put(b"one")
    (picture,) = sender.client.spool.pictures()
    picture.next_at = sender.now + 10 * 365 * 86400
    assert picture.is_due(sender.now)
    picture.next_at = sender.now + 60
    assert not picture.is_due(sender.now)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("soon", 1.0),
        ("-1", 1.0),
        ("9" * 5000, 999_999_999.0),
        (f"Sun, 06 Nov {'9' * 20} 08:49:37 GMT", 1.0),
        (f"Sun, 06 Nov 1994 08:49:37 +{'9' * 400}", 1.0),
    ],
)
def test_retry_after_as_servers_write_it(text: str, seconds: float | None) -> None:
    assert client._seconds(text) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = email.utils.formatdate(time.time() + 1000, usegmt=True)
    assert 900 < client._seconds(later) <= 1000


def test_a_source_may_be_a_path_bytes_or_a_file(tmp_path: Path) -> None:
    sender = camera(tmp_path)
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"from a path")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    sender.client.put(path)
    file = io.BytesIO(b"skipped, from a file")
    file.read(9)
    sender.client.put(file, captured_at="2026-01-02T03:04:05Z", tags={"lens": "wide"}, urgent=True)
    first, second = sender.client.spool.pictures()
    assert (first.captured_at, first.size) == ("2023-11-14T22:13:20Z", 11)
    assert (second.size, second.tags, second.urgent) == (11, "lens=wide", True)
    with pytest.raises(client.ClientError):
        sender.client.put(b"")
    with pytest.raises(client.ClientError):
        sender.client.put(b"x", tags={"lens": "wide\r\nX-Evil: 1"})


def run(*words: str, config: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(PYTHON), "--config", str(config), *words],
        capture_output=True, text=True, timeout=120, env={**without_settings(), **environment},
    )  # fmt: skip


def test_the_command_puts_sends_lists_and_gives_up(
    gateway: Gateway, tmp_path: Path, photo: Photo
) -> None:
    device, token = next(gateway.devices)
    (tmp_path / "token").write_text(token + "\n")
    config = tmp_path / "client.ini"
    config.write_text(
        f"[gateway]\nurl = {gateway.receiver.url}\ntoken_file = {tmp_path / 'token'}\n"
        f"[spool]\npath = {tmp_path / 'spool'}\nmax_bytes = 10MB\n[retention]\nkeep = 2min\n"
    )
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(photo())
    bad.write_bytes(b"no picture " * 30)
    done = run("put", "--move", "--tag", "lens=wide", str(good), str(bad), config=config)
    assert (done.returncode, done.stdout) == (0, f"1 {good}\n2 {bad}\n"), done.stderr
    assert not good.exists() and not bad.exists()
    done = run("send", config=config)
    assert done.returncode == 3, done.stderr
    assert done.stdout == "1 taken, 0 erased, 0 waiting, 1 held, 1 refused\n"
    assert len(gateway.images(device)) == 1
    listed = run("list", config=config).stdout.splitlines()
    assert listed[0].split()[:2] == ["1", "held"] and "unsupported_image" in listed[1]
    assert run("discard", "1", config=config).stdout == "0 discarded\n"  # it is not refused
    assert run("retry", config=config).stdout == "1 put back\n"
    assert run("send", config=config).returncode == 3
    assert run("discard", "2", config=config).stdout == "1 discarded\n"
    assert run("send", config=config).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gateway]\nurl = gateway\ndevice = a\n[spool]\npath = x\n", "no address like"),
        ("[gateway]\nurl = http://g\n[spool]\npath = x\n", "Set token or device"),
        ("[gateway]\nurl = http://g\ndevice = a\n", "set path in [spool]"),
        ("[gateway]\nurl = http://g\ndevice = a\nspeed = 3\n", "no setting speed"),
        ("[spool]\npath = x\nmax_bytes = many\n", "no number with a unit"),
        ("[retention]\nerase = never\n", "neither safe nor accepted"),
        ("[gateway]\ntoken_file = /nowhere\n", "token_file cannot be read"),
        ("nonsense", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "client.ini"
    if text.startswith("[retention]"):
        text += "[gateway]\nurl = http://g\ndevice = a\n[spool]\npath = x\n"
    config.write_text(text)
    done = run("list", config=config)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_example_has_every_setting_and_reads_as_it_is(tmp_path: Path) -> None:
    text = (ROOT / "clients" / "headgate-client.ini").read_text(encoding="utf-8")
    for section, names in client._SECTIONS.items():
        part = text.partition(f"[{section}]")[2].partition("\n[")[0]
        for name in names:
            assert f"{name} = " in part or name == "token", name
    config = tmp_path / "client.ini"
    (tmp_path / "token").write_text("TOKEN")
    config.write_text(text.replace("/etc/headgate-client/token", str(tmp_path / "token")))
    read = client.load(config)
    assert (read.token, read.erase, read.keep_seconds) == ("TOKEN", "safe", 86400)
    defaults = client.Config(gateway="http://g", spool="x", device="d")
    assert (read.max_bytes, read.ask_seconds) == (defaults.max_bytes, defaults.ask_seconds)


def test_an_upgrade_may_add_to_a_record(tmp_path: Path) -> None:
    sender = camera(tmp_path)
    sender.put(b"one")
    path = sender.folder / "00000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_a_later_version": 1}))
    assert len(sender.states()) == 1


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"<html>", b"[]"])
def test_what_a_portal_in_between_says_is_no_answer(text: bytes) -> None:
    assert client.judge(200, "", text).outcome is client.Outcome.NO_ANSWER


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("-7", 0), ("NaN", 0), ("1e400", 3600), ("9" * 4000, 3600)]
)
def test_a_wait_of_any_size_is_a_number_of_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, seconds: float
) -> None:
    text = f'{{"accepting": false, "reason": "full", "retry_after": {said}}}'.encode()
    sender, report = camera(tmp_path), client.Report()
    limits = client.judge(200, "", text)
    monkeypatch.setattr(sender.client._connection, "ask", lambda *_: limits)
    assert not sender.client._reach(report)
    assert report.wait_seconds == seconds
