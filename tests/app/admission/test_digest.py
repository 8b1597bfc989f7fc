"""HTTP Digest, as real clients speak it, and what it must refuse."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from requests.auth import HTTPDigestAuth

from app.admission import digest
from headgate.spool.site.devices import Credential, DigestLogin
from tests.support.receiver import Answer, Receiver, check, running, site

Photo = Callable[[], bytes]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("digest")
    with running(folder, receiver__auth="token", receiver__device_rate="0") as found:
        yield found


def enrol(receiver: Receiver, name: str) -> str:
    with site(receiver) as opened:
        return opened.devices.add([name], datetime.now(UTC), digest=True)[0].secret


def url(receiver: Receiver, path: str = "/uploadImage") -> str:
    return f"http://127.0.0.1:{receiver.port}{path}"


def curl(receiver: Receiver, image: Path, login: str, *flags: str) -> str:
    """The status that curl ends with."""
    done = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *flags, "-u", login,
         "-F", f"image=@{image}", url(receiver)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("flag", ["--digest", "--anyauth", "--basic"])
def test_curl_logs_in_and_a_wrong_token_does_not(
    guarded: Receiver, photo: Photo, tmp_path: Path, flag: str
) -> None:
    name = f"cam{flag}"
    token = enrol(guarded, name)
    (tmp_path / "a.jpg").write_bytes(photo())
    assert curl(guarded, tmp_path / "a.jpg", f"{name}:{token}", flag) == "201"
    assert curl(guarded, tmp_path / "a.jpg", f"{name}:{token}x", flag) == "401"


def post(receiver: Receiver, photo: bytes, login: requests.auth.AuthBase) -> int:
    answer = requests.post(url(receiver), files={"image": photo}, auth=login, timeout=60)
    return answer.status_code


def test_requests_logs_in_and_a_nonce_survives_a_restart(own: Path, photo: Photo) -> None:
    """The second request answers the first one's challenge, and is not challenged again."""
    with running(own, receiver__auth="token") as receiver:
        login = HTTPDigestAuth("cam-d", enrol(receiver, "cam-d"))
        assert post(receiver, photo(), login) == 201
        nonce = login._thread_local.last_nonce
        receiver.stop()
        receiver.start()
        assert post(receiver, photo(), login) == 201
        assert login._thread_local.last_nonce == nonce


def test_a_new_token_and_a_revoked_one(guarded: Receiver, photo: Photo) -> None:
    old = enrol(guarded, "cam-new")
    with site(guarded) as opened:
        now = datetime.now(UTC)
        new = opened.devices.rotate(["cam-new"], now, timedelta(days=1))[0].secret
    for token in (old, new):
        assert post(guarded, photo(), HTTPDigestAuth("cam-new", token)) == 201
    with site(guarded) as opened:
        opened.devices.revoke(["cam-new"], datetime.now(UTC))
    for token in (old, new):
        assert post(guarded, photo(), HTTPDigestAuth("cam-new", token)) == 401


def test_who_was_not_enrolled_for_it_is_offered_what_works(guarded: Receiver, photo: Photo) -> None:
    with site(guarded) as opened:
        token = opened.devices.add(["cam-basic"], datetime.now(UTC))[0].secret
        rows = opened._db.execute("SELECT 1 FROM digest_logins WHERE device = 'cam-basic'")
        assert rows.fetchall() == []
    answer = requests.post(
        url(guarded), files={"image": photo()}, auth=HTTPDigestAuth("cam-basic", token), timeout=60
    )
    assert answer.status_code == 401
    assert "--digest" in answer.json()["detail"]
    assert "digest" not in answer.headers["www-authenticate"].lower()
    assert "Basic" in answer.headers["www-authenticate"]


def test_digest_is_offered_only_once_a_device_needs_it(own: Path, photo: Photo) -> None:
    with running(own, receiver__auth="token") as receiver:
        assert "Digest" not in challenged(receiver)
        enrol(receiver, "cam-one")
        assert challenged(receiver).count("Digest") == 2


def challenged(receiver: Receiver) -> str:
    answer = requests.get(url(receiver, "/images/none"), timeout=60)
    assert answer.status_code == 401
    return answer.headers["www-authenticate"]


# -- what is signed


class Signer:
    """A client of RFC 7616, by its formulas alone."""

    def __init__(self, receiver: Receiver, name: str, token: str) -> None:
        self.receiver, self.name, self.token = receiver, name, token
        self.nonce = re.findall(r'nonce="([^"]+)"', challenged(receiver))[0]
        self.algorithm, self.qop = "SHA-256", "auth"

    def header(self, method: str, uri: str) -> str:
        one = hashlib.sha256 if self.algorithm.startswith("SHA-256") else hashlib.md5

        def h(*parts: str) -> str:
            return one(":".join(parts).encode()).hexdigest()

        secret = h(self.name, "headgate", self.token)
        if self.algorithm.endswith("-sess"):
            secret = h(secret, self.nonce, "c0")
        between = (self.nonce, "00000001", "c0", self.qop) if self.qop else (self.nonce,)
        said = {"username": self.name, "realm": "headgate", "nonce": self.nonce, "uri": uri,
                "response": h(secret, *between, h(method, uri))}  # fmt: skip
        if self.qop:
            said |= {"cnonce": "c0"}
        bare = f", qop={self.qop}, nc=00000001" if self.qop else ""
        bare += f", algorithm={self.algorithm}" if self.algorithm else ""
        return "Digest " + ", ".join(f'{k}="{v}"' for k, v in said.items()) + bare

    def post(self, image: bytes, uri: str, path: str = "", method: str = "POST") -> Answer:
        header = self.header(method, uri)
        return self.receiver.request("POST", path or uri, image, Authorization=header)


@pytest.mark.parametrize(
    ("algorithm", "qop"),
    [("SHA-256", "auth"), ("SHA-256-sess", "auth"), ("MD5", "auth"), ("MD5-sess", "auth"),
     ("", "auth"), ("MD5", ""), ("", "")],
)  # fmt: skip
def test_every_way_to_sign(guarded: Receiver, photo: Photo, algorithm: str, qop: str) -> None:
    name = f"way-{algorithm}-{qop}"
    signer = Signer(guarded, name, enrol(guarded, name))
    signer.algorithm, signer.qop = algorithm, qop
    check(signer.post(photo(), "/uploadImage?x=1"), 201)
    check(signer.post(photo(), "http://gateway/prefix/uploadImage", "/uploadImage"), 201)


def test_what_was_signed_for_another_request_is_refused(guarded: Receiver, photo: Photo) -> None:
    signer = Signer(guarded, "cam-sign", enrol(guarded, "cam-sign"))
    check(signer.post(photo(), "/images", "/uploadImage"), 401, "unauthorized")
    check(signer.post(photo(), "/images", method="GET"), 401, "unauthorized")
    for algorithm, qop in (("SHA-512", "auth"), ("MD5", "auth-int")):
        signer.algorithm, signer.qop = algorithm, qop
        check(signer.post(photo(), "/images"), 401, "unauthorized")


@pytest.mark.parametrize("made", ["", "none", "-", "ffff-", "7" * 30 + "-0"])
def test_a_nonce_that_is_not_ours_is_refused_as_stale(
    guarded: Receiver, photo: Photo, made: str
) -> None:
    name = f"cam-nonce-{len(made)}-{made[:1]}"
    signer = Signer(guarded, name.strip("-"), enrol(guarded, name.strip("-")))
    signer.nonce = made
    answer = check(signer.post(photo(), "/images"), 401, "unauthorized")
    assert answer.json["stale"] is True


def test_the_example_of_the_rfc() -> None:
    """RFC 7616, 3.9.1: both of its answers."""
    secret = b"Mufasa:http-auth@example.org:Circle of Life"
    login = DigestLogin(
        Credential("Mufasa", urgent=False),
        hashlib.md5(secret).hexdigest(),
        hashlib.sha256(secret).hexdigest(),
    )
    said = {
        "uri": "/dir/index.html", "nc": "00000001", "qop": "auth",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    }  # fmt: skip
    answers = {
        "MD5": "8ca523f5e9506fed4657c9700eebdbec",
        "SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    }
    for algorithm, response in answers.items():
        assert digest.is_right(said | {"algorithm": algorithm, "response": response}, "GET", login)
        assert not digest.is_right(
            said | {"algorithm": algorithm, "response": response}, "POST", login
        )


def test_a_nonce_is_for_its_address_and_time() -> None:
    made = digest.nonce("key", "192.0.2.1", 1_000_000)
    assert digest._age(made, "key", "192.0.2.1", 1_000_100) == 100
    for key, peer in (("other", "192.0.2.1"), ("key", "192.0.2.2")):
        assert digest._age(made, key, peer, 1_000_100) is None
    assert digest._age("f" + made, "key", "192.0.2.1", 1_000_100) is None
