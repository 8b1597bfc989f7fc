"""Pictures by FTP, as a whole program: real clients, a camera's habits, what is no upload.

Needs the packages of requirements-ftp.lock in the folder HEADGATE_TEST_FTP.
"""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from tests.support.companion import companion
from tests.support.receiver import Receiver, enrol, metadata, running, site, stored
from tests.support.wait import wait_until

PACKAGES = os.environ.get("HEADGATE_TEST_FTP", "")
pytestmark = pytest.mark.skipif(
    not PACKAGES,
    reason="HEADGATE_TEST_FTP names no folder with the packages of requirements-ftp.lock",
)

Photo = Callable[[], bytes]


@dataclass
class Gateway:
    """A receiver, and headgate-ftp beside it."""

    receiver: Receiver
    port: int
    log: Path

    @contextlib.contextmanager
    def session(self, user: str, password: str) -> Iterator[ftplib.FTP]:
        with ftplib.FTP() as ftp:
            ftp.connect("127.0.0.1", self.port, timeout=60)
            ftp.login(user, password)
            yield ftp


def refused_login(gateway: Gateway, user: str, password: str, reply: str = "530") -> None:
    with pytest.raises(ftplib.error_perm, match=reply), gateway.session(user, password):
        raise AssertionError("it was let in")


@contextlib.contextmanager
def ftp_server(receiver: Receiver, folder: Path, **settings: str) -> Iterator[Gateway]:
    with companion("ftp", receiver, folder, settings, PACKAGES) as (port, log):
        yield Gateway(receiver, port, log)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("ftp")
    settings = {
        "receiver__auth": "token",
        "receiver__device_rate": "0",
        "receiver__max_image": "1MB",
    }
    with running(folder, **settings) as receiver:
        allowed = {"receiver.auth": "token", "receiver.max_image": "1MB"}
        with ftp_server(receiver, folder, **allowed) as found:
            yield found


def images(gateway: Gateway, device: str) -> list[Path]:
    return [path for path in gateway.receiver.images() if f"_{device}_" in path.name]


def test_a_picture_is_stored_before_it_is_acknowledged(gateway: Gateway, photo: Photo) -> None:
    token, image = enrol(gateway.receiver, "cam-f1"), photo()
    with gateway.session("cam-f1", token) as ftp:
        ftp.mkd("2026-11")
        ftp.cwd("/2026-11")
        assert ftp.storbinary("STOR front.jpg", io.BytesIO(image)).startswith("226")
        (held,) = images(gateway, "cam-f1")
        assert held.read_bytes() == image
        said = metadata(gateway.receiver, held.stem)
        assert (said.file_name, said.tags) == ("front.jpg", {"folder": "2026-11"})
        assert ftp.size("front.jpg") == len(image)


def test_a_cameras_habits(gateway: Gateway, photo: Photo) -> None:
    """A test file first, a temporary name and a rename, text mode, a session for each."""
    token, image = enrol(gateway.receiver, "cam-f2"), photo()
    with gateway.session("cam-f2", token) as ftp:
        assert ftp.storbinary("STOR test.txt", io.BytesIO(b"test")).startswith("226")
        ftp.delete("test.txt")
    with gateway.session("cam-f2", token) as ftp:
        ftp.storbinary("STOR a.tmp", io.BytesIO(image))
        ftp.rename("a.tmp", "a.jpg")
        assert ftp.nlst() == []
    with gateway.session("cam-f2", token) as ftp:
        ftp.sendcmd("TYPE A")
        with ftp.transfercmd("STOR text.jpg") as data:
            data.sendall(second := photo())
        ftp.voidresp()
    assert sorted(path.read_bytes() for path in images(gateway, "cam-f2")) == sorted(
        [image, second]
    )


def test_what_is_not_held_is_not_acknowledged(gateway: Gateway, photo: Photo) -> None:
    token, image = enrol(gateway.receiver, "cam-f3"), photo()
    with gateway.session("cam-f3", token) as ftp:
        for name, data, reply in (
            ("cut.jpg", image[:-1000], "550"),
            ("text.jpg", b"no picture" * 1000, "550"),
            ("large.jpg", image + bytes(1_100_000), "552"),
        ):
            with pytest.raises((ftplib.error_perm, ConnectionError, BrokenPipeError)) as caught:
                ftp.storbinary(f"STOR {name}", io.BytesIO(data))
            if isinstance(caught.value, OSError):  # it was told before it had sent all
                with pytest.raises(ftplib.error_perm, match=reply):
                    ftp.voidresp()
            else:
                assert str(caught.value).startswith(reply)
        for command in ("APPE a.jpg", "RETR a.jpg", "SITE CHMOD 777 a.jpg"):
            with pytest.raises(ftplib.error_perm, match="550"):
                ftp.sendcmd(command)
    assert images(gateway, "cam-f3") == []


def test_an_upload_whose_data_connection_breaks_is_none(gateway: Gateway, photo: Photo) -> None:
    token, image = enrol(gateway.receiver, "cam-f4"), photo()
    with gateway.session("cam-f4", token) as ftp:
        data = ftp.transfercmd("STOR a.jpg")
        data.sendall(image)
        arrived = f"Total bytes received: {len(image)}"
        wait_until(lambda: arrived in ftp.sendcmd("STAT"), "all of it has been read")
        # Reset instead of closed: nothing says that this was all.
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        data.close()
        with pytest.raises(ftplib.error_temp, match="426"):
            ftp.voidresp()
        assert images(gateway, "cam-f4") == []
        assert ftp.storbinary("STOR a.jpg", io.BytesIO(image)).startswith("226")
        assert ftp.storbinary("STOR a.jpg", io.BytesIO(image)).startswith("226")  # a repeat
    assert len(images(gateway, "cam-f4")) == 1


def test_who_may_not_log_in(gateway: Gateway) -> None:
    token = enrol(gateway.receiver, "cam-f5")
    for user, password in (("cam-f5", "wrong"), ("cam-f6", token), ("anonymous", "a@b")):
        refused_login(gateway, user, password)
    with site(gateway.receiver) as opened:
        opened.devices.revoke(["cam-f5"], datetime.now(UTC))
    refused_login(gateway, "cam-f5", token)
    assert token not in gateway.log.read_text()


def test_while_the_receiver_is_away_a_picture_is_to_be_sent_again(own: Path, photo: Photo) -> None:
    with running(own, receiver__auth="token") as receiver:
        token = enrol(receiver, "cam-f7")
        with ftp_server(receiver, own) as gateway, gateway.session("cam-f7", token) as ftp:
            receiver.stop()
            with pytest.raises(ftplib.error_temp, match="451"):
                ftp.storbinary("STOR a.jpg", io.BytesIO(photo()))
            receiver.start()


@pytest.mark.parametrize("flags", [[], ["--ftp-create-dirs"], ["--disable-epsv"], ["-P", "-"]])
def test_curl(gateway: Gateway, photo: Photo, tmp_path: Path, flags: list[str]) -> None:
    """Passive, extended passive, and active."""
    name = f"cam-c{len(flags)}{''.join(flags).strip('-')[:4]}".rstrip("-")
    token = enrol(gateway.receiver, name)
    (tmp_path / "a.jpg").write_bytes(photo())
    url = f"ftp://127.0.0.1:{gateway.port}/day/a.jpg"
    done = subprocess.run(
        ["curl", "-sS", "--ftp-create-dirs", *flags, "-u", f"{name}:{token}", "-T",
         str(tmp_path / "a.jpg"), url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(images(gateway, name)) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["lftp", "-u", "{user},{token}", "-p", "{port}", "127.0.0.1", "-e", "put {file}; bye"],
        ["ncftpput", "-u", "{user}", "-p", "{token}", "-P", "{port}", "127.0.0.1", "/", "{file}"],
    ],
    ids=["lftp", "ncftpput"],
)  # fmt: skip
def test_other_clients(gateway: Gateway, photo: Photo, tmp_path: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    token = enrol(gateway.receiver, f"by-{command[0]}")
    file = tmp_path / "a.jpg"
    file.write_bytes(photo())
    known = {"user": f"by-{command[0]}", "token": token, "port": gateway.port, "file": file}
    filled = [word.format(**known) for word in command]
    subprocess.run(filled, check=True, capture_output=True, timeout=120)
    assert len(images(gateway, f"by-{command[0]}")) == 1


def test_over_tls(own: Path, photo: Photo) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(own / "ftp.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with running(own, receiver__auth="token") as receiver:
        token, image = enrol(receiver, "cam-tls"), photo()
        secure = {"ftp.certificate": str(own / "ftp.pem"), "ftp.require_tls": "true"}
        with ftp_server(receiver, own, **secure) as gateway:
            refused_login(gateway, "cam-tls", token, reply="5")
            with ftplib.FTP_TLS(context=context) as ftp:
                ftp.connect("127.0.0.1", gateway.port, timeout=60)
                ftp.login("cam-tls", token)
                ftp.prot_p()
                assert ftp.storbinary("STOR a.jpg", io.BytesIO(image)).startswith("226")
            (held,) = images(gateway, "cam-tls")
            assert stored(receiver, held.stem).read_bytes() == image


def test_where_no_token_is_needed_a_name_is_enough(own: Path, photo: Photo) -> None:
    """But not the name of a device that was enrolled."""
    with running(own, receiver__auth="open") as receiver:
        enrol(receiver, "cam-own")
        with ftp_server(receiver, own, **{"receiver.auth": "open"}) as gateway:
            with gateway.session("Front Door", "any") as ftp:
                ftp.storbinary("STOR a.jpg", io.BytesIO(photo()))
            assert len(images(gateway, "x--Front_20Door")) == 1
            refused_login(gateway, "cam-own", "any")
