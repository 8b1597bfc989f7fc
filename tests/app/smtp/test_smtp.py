"""Pictures by mail, as a whole program."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from app.smtp import pictures
from tests.support.companion import companion
from tests.support.receiver import Receiver, enrol, metadata, running

Photo = Callable[[], bytes]


@contextlib.contextmanager
def session(port: int, user: str = "", password: str = "") -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        if user:
            client.login(user, password)
        yield client


def mail(*attached: tuple[str, bytes], sender: str = "cam@site.example") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, "x@y.example", "Motion detected"
    message.set_content("Alarm")
    for name, data in attached:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message


def images(receiver: Receiver, device: str) -> list[Path]:
    return sorted(path for path in receiver.images() if f"_{device}_" in path.name)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Receiver, int]]:
    folder = tmp_path_factory.mktemp("smtp")
    with running(folder, receiver__auth="token", receiver__device_rate="0") as receiver:
        with companion("smtp", receiver, folder, {"receiver.auth": "token"}) as (port, _):
            yield receiver, port


def test_the_pictures_of_a_mail_are_stored(guarded: tuple[Receiver, int], photo: Photo) -> None:
    receiver, port = guarded
    token = enrol(receiver, "cam-m1")
    first, second = photo(), photo()
    message = mail(("a.jpg", first), ("b.jpg", second), ("event.xml", b"<event/>"))
    with session(port, "cam-m1", token) as client:
        assert client.send_message(message) == {}
        client.send_message(message)  # a repeat is held already
    held = images(receiver, "cam-m1")
    assert [path.read_bytes() for path in held] == [first, second]
    assert metadata(receiver, held[0].stem).file_name == "a.jpg"


def test_a_mail_without_a_usable_picture(guarded: tuple[Receiver, int], photo: Photo) -> None:
    receiver, port = guarded
    with session(port, "cam-m2", enrol(receiver, "cam-m2")) as client:
        client.send_message(mail())  # a camera tests its settings
        for attached in (("a.pdf", b"%PDF-1.7"), ("cut.jpg", photo()[:-1000])):
            with pytest.raises(smtplib.SMTPDataError) as caught:
                client.send_message(mail(attached))
            assert caught.value.smtp_code == 554
    assert images(receiver, "cam-m2") == []


def test_who_may_not_send(guarded: tuple[Receiver, int], photo: Photo) -> None:
    receiver, port = guarded
    token = enrol(receiver, "cam-m3")
    for user, password in (("cam-m3", "wrong"), ("cam-m4", token)):
        with pytest.raises(smtplib.SMTPAuthenticationError), session(port, user, password):
            raise AssertionError("it was let in")
    with session(port) as client, pytest.raises(smtplib.SMTPSenderRefused) as caught:
        client.send_message(mail(("a.jpg", photo()), sender="cam-m3@site.example"))
    assert caught.value.smtp_code == 530


def test_where_no_login_is_needed_and_without_the_receiver(own: Path, photo: Photo) -> None:
    """No one takes an enrolled device's name; a mail that cannot be kept is to come again."""
    with running(own, receiver__auth="open") as receiver:
        token = enrol(receiver, "gate")
        with companion("smtp", receiver, own, {"receiver.auth": "open"}) as (port, _):
            taken = mail(("a.jpg", photo()), sender="gate@site.example")
            with session(port) as client, pytest.raises(smtplib.SMTPSenderRefused) as refused:
                client.send_message(taken)
            assert refused.value.smtp_code == 530
            with pytest.raises(smtplib.SMTPAuthenticationError), session(port, "gate", "wrong"):
                raise AssertionError("it was let in")
            with session(port, "gate", token) as client:
                client.send_message(mail(("a.jpg", photo()), sender="front-door@site.example"))
            assert (len(images(receiver, "gate")), images(receiver, "front-door")) == (1, [])
            with session(port) as client:
                client.send_message(mail(("a.jpg", photo()), sender="front-door@site.example"))
                assert len(images(receiver, "front-door")) == 1
                receiver.stop()
                with pytest.raises(smtplib.SMTPDataError) as caught:
                    client.send_message(mail(("a.jpg", photo())))
                assert caught.value.smtp_code == 451
        receiver.start()


def test_over_tls(own: Path, photo: Photo) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(own / "smtp.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with running(own, receiver__auth="token") as receiver:
        token = enrol(receiver, "cam-tls")
        secure = {"smtp.certificate": str(own / "smtp.pem"), "smtp.require_tls": "true"}
        with companion("smtp", receiver, own, secure | {"receiver.auth": "token"}) as (port, _):
            with session(port) as client:
                with pytest.raises(smtplib.SMTPException):
                    client.login("cam-tls", token)
                client.starttls(context=context)
                client.login("cam-tls", token)
                client.send_message(mail(("a.jpg", photo())))
            assert len(images(receiver, "cam-tls")) == 1


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xfe\x00", b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x",
     b"Content-Transfer-Encoding: base64\r\n\r\n!!!!", b"Content-Type: text/plain; charset=\xff"],
)  # fmt: skip
def test_a_mail_that_cannot_be_parsed_has_no_pictures(raw: bytes) -> None:
    assert pictures.read(raw).pictures == ()
