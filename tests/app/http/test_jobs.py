"""Drains asked for over HTTP: who may, what is kept, what is answered; identity tokens for real."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from headgate.settings.settings import SettingsError
from headgate.spool.site.jobs import OIDC_KEYS, WANT_KEYS, BadJob, asked_for
from headgate.spool.site.runs import Run
from tests.support.receiver import Receiver, check, running, site
from tests.support.spooling import settings_for

AUDIENCE = "https://north.example.net/jobs/drain"
ISSUER = "https://accounts.google.com"
ACCOUNT = "scheduler@project.iam.gserviceaccount.com"


class Issuer:
    """Signs identity tokens as Google does: RS256, with a key that its JWK set shows by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def document(self) -> dict[str, Any]:
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {**jwk, "kid": self.name, "use": "sig", "alg": "RS256"}

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        said = {
            "aud": AUDIENCE, "azp": "1", "email": ACCOUNT, "email_verified": True,
            "exp": now + 3600, "iat": now, "iss": ISSUER, "sub": "1", **claims,
        }  # fmt: skip
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, self._key, "RS256", headers={"kid": self.name})


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("key-1")


Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Receiver]:
    """A receiver where everybody needs a token, and a service account's identity is one."""
    folder = tmp_path_factory.mktemp("jobs")
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": [issuer.document()]}))
    settings = {
        "receiver__auth": "token", "jobs__oidc_audience": AUDIENCE, "jobs__oidc_email": ACCOUNT,
        "jobs__oidc_keys": str(keys), "jobs__rate": "1000",
    }  # fmt: skip
    with running(folder, **settings) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_waits(gateway: Receiver) -> None:
    """What the last test asked for is done: as by a run."""
    with site(gateway) as opened:
        run = Run(f"run-{time.time_ns()}", datetime.now(UTC))
        opened.jobs.take_up(run, bounded=False)
        opened.jobs.finish(run)


def drain(receiver: Receiver, body: bytes = b"", **headers: str) -> Any:
    return receiver.request("POST", "/jobs/drain", body=body, **headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token_for(receiver: Receiver, name: str, *, may_drain: bool) -> str:
    with site(receiver) as opened:
        made = opened.devices.add([name], datetime.now(UTC), may_drain=may_drain)
    return made[0].secret


def test_a_job_is_on_disk_before_202_and_can_be_asked_for(gateway: Receiver) -> None:
    ops = bearer(token_for(gateway, "ops-1", may_drain=True))
    body = json.dumps({"max_time": "2min", "max_bytes": "5MB", "device": "cam-7"}).encode()
    answer = check(drain(gateway, body, **ops), 202)
    with site(gateway) as opened:
        kept = opened.jobs.get(answer.json["id"])
        fired = opened.triggers.all()["http"]
    assert kept is not None
    assert (kept.max_seconds, kept.max_bytes, kept.device) == (120, 5_000_000, "cam-7")
    assert (kept.way, kept.sender, kept.state) == ("http", "ops-1", "queued")
    assert (fired.at, fired.sender) == (kept.asked_at, "ops-1")
    assert answer.headers["location"] == f"/jobs/{kept.id}"
    told = check(gateway.request("GET", answer.headers["location"], **ops), 200).json
    assert told == answer.json
    assert told["outcome"] is None


def test_how_a_job_goes_is_told(gateway: Receiver) -> None:
    ops = bearer(token_for(gateway, "ops-2", may_drain=True))
    where = check(drain(gateway, **ops), 202).headers["location"]
    run = Run("run-told", datetime.now(UTC))
    with site(gateway) as opened:
        opened.jobs.take_up(run, bounded=False)
        assert gateway.request("GET", where, **ops).json["state"] == "running"
        ended = Run("run-told", run.started_at, datetime.now(UTC), "http", "done", 0, 3, 30, 31)
        opened.jobs.finish(ended)
    told = gateway.request("GET", where, **ops).json
    wanted = {"state": "done", "outcome": "done", "exit_code": 0, "images": 3, "bytes": 30,
              "wire_bytes": 31, "run": "run-told"}  # fmt: skip
    assert {name: told[name] for name in wanted} == wanted


def test_a_devices_own_token_may_not_and_nobody_without_one(gateway: Receiver) -> None:
    camera = bearer(token_for(gateway, "cam-1", may_drain=False))
    check(drain(gateway, **camera), 403, "may_not_drain")
    check(drain(gateway), 401, "unauthorized")
    check(drain(gateway, Authorization="Bearer hg_nonsense"), 401, "unauthorized")
    check(gateway.request("GET", "/jobs/x"), 401, "unauthorized")
    check(gateway.request("GET", "/jobs/x", **camera), 404, "no_job")
    with site(gateway) as opened:
        assert opened.jobs.queued() == []


def test_from_this_machine_itself_no_token_is_needed(receiver: Receiver) -> None:
    check(drain(receiver), 202)
    check(drain(receiver, X_Forwarded_For="10.0.0.1"), 401, "unauthorized")
    check(drain(receiver, Origin="http://elsewhere.example"), 403, "forbidden")


def test_asked_again_while_it_waits_it_is_the_same_job(gateway: Receiver) -> None:
    ops = bearer(token_for(gateway, "ops-3", may_drain=True))
    first, second = drain(gateway, **ops), drain(gateway, b"{}", **ops)
    assert first.json["id"] == second.json["id"]
    assert check(drain(gateway, b'{"device": "cam-7"}', **ops), 202).json["id"] != first.json["id"]


def test_more_than_so_many_a_minute_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, jobs__rate="2") as receiver:
        for name in ("a", "b"):
            check(drain(receiver, json.dumps({"device": name}).encode()), 202)
        refused = check(drain(receiver, b'{"device": "c"}'), 429, "too_many_jobs")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        with site(receiver) as opened:
            assert [job.device for job in opened.jobs.queued()] == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        b"now", b"[]", b"\xff", b"[" * 4000, b'{"max_time": 5}', b'{"max_time": "soon"}',
        b'{"max_time": "2d"}', b'{"max_bytes": "0MB"}', b'{"max_bytes": "9999999999TB"}',
        b'{"device": "../x"}', b'{"urgent": "yes"}', b" " * 5000,
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused(gateway: Receiver, body: bytes) -> None:
    ops = bearer(token_for(gateway, f"ops-{abs(hash(body))}", may_drain=True))
    check(drain(gateway, body, **ops), 400, "bad_job")
    with site(gateway) as opened:
        assert opened.jobs.queued() == []


def test_what_a_job_says_becomes_its_bounds() -> None:
    assert asked_for({}) == {}
    assert asked_for({"max_time": "90s"}) == {"max_seconds": 90}
    with pytest.raises(BadJob, match="is none of max_time, max_bytes, device"):
        asked_for({"max-time": "90s"})


# -- identity tokens


def test_a_schedulers_identity_is_taken(gateway: Receiver, issuer: Issuer) -> None:
    """As Cloud Scheduler sends it: no body, and a content type of its own."""
    header = bearer(issuer.token()) | {"Content_Type": "application/octet-stream"}
    answer = check(drain(gateway, **header), 202)
    assert answer.json["asked_by"] == ACCOUNT
    check(gateway.request("GET", answer.headers["location"], **header), 200)


def invalid(issuer: Issuer) -> dict[str, tuple[str, int, str]]:
    now, other = int(time.time()), Issuer("key-1")
    head, _, rest = issuer.token().partition(".")
    forged = other.token().partition(".")[0] + "." + rest
    unsigned = jwt.encode({"aud": AUDIENCE, "iss": ISSUER, "exp": now + 60, "iat": now,
                           "email": ACCOUNT, "email_verified": True}, None, "none")  # fmt: skip
    public = json.dumps(issuer.document())
    return {
        "expired": (issuer.token(exp=now - 120), 401, "expired"),
        "of the future": (issuer.token(iat=now + 300), 401, "not yet valid"),
        "for another audience": (issuer.token(aud="https://south.example.net"), 401, "udience"),
        "for no audience": (issuer.token(aud=None), 401, "aud"),
        "without an end": (issuer.token(exp=None), 401, "exp"),
        "good for a week": (issuer.token(exp=now + 7 * 86400), 401, "longer than an hour"),
        "issued long ago": (issuer.token(iat=now - 7200, exp=now + 60), 401, "longer than an hour"),
        "issued never": (issuer.token(iat=None), 401, "iat"),
        "of another issuer": (issuer.token(iss="https://elsewhere.example"), 401, "ssuer"),
        "of another account": (issuer.token(email="a@b.example"), 403, "another account"),
        "of no account": (issuer.token(email=None), 403, "another account"),
        "of an address not verified": (issuer.token(email_verified=False), 403, "another account"),
        "signed by another's key of the same name": (other.token(), 401, "ignature"),
        "with a signature of something else": (f"{forged[:-6]}AAAAAA", 401, "not valid"),
        "signed by an unknown key": (Issuer("key-2").token(), 401, "not in jobs.oidc_keys"),
        "not signed at all": (unsigned, 401, ""),
        "signed with the public key as a secret": (hs256(issuer.token(), public), 401, ""),
        "not one at all": (f"{head}.x.y", 401, ""),
    }


def hs256(token: str, public: str) -> str:
    """What a careless checker takes: the algorithm changed to one whose secret is the public key
    (RFC 8725, section 2.1)."""
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT","kid":"key-1"}').decode()
    signed = f"{head}.{token.split('.')[1]}"
    mac = hmac.new(public.encode(), signed.encode(), "sha256").digest()
    return f"{signed}.{jwt.utils.base64url_encode(mac).decode()}"


def test_an_identity_that_is_not_valid_is_refused_and_why(
    gateway: Receiver, issuer: Issuer
) -> None:
    for what, (token, status, why) in invalid(issuer).items():
        answer = drain(gateway, **bearer(token))
        assert answer.status == status, what
        assert why in answer.json["detail"], what
    with site(gateway) as opened:
        assert opened.jobs.queued() == []


def test_two_clocks_may_differ_by_a_minute(gateway: Receiver, issuer: Issuer) -> None:
    now = int(time.time())
    check(drain(gateway, **bearer(issuer.token(exp=now - 30))), 202)
    check(drain(gateway, **bearer(issuer.token(iat=now + 30))), 202)


def test_an_identity_starts_drains_and_sends_no_images(
    gateway: Receiver, issuer: Issuer, photo: Callable[[], bytes]
) -> None:
    check(gateway.post_raw(photo(), **bearer(issuer.token())), 401, "unauthorized")


def test_keys_from_the_issuer_are_those_that_watch_fetched(tmp_path: Path, issuer: Issuer) -> None:
    settings = {"jobs__oidc_audience": AUDIENCE, "jobs__oidc_email": ACCOUNT}
    with running(tmp_path, **settings) as receiver:
        token = bearer(issuer.token())
        assert "not been fetched yet" in check(drain(receiver, **token), 401).json["detail"]
        with site(receiver) as opened:
            opened.put(OIDC_KEYS, {"at": "", "keys": [Issuer("key-0").document()]})
        assert "fetches new ones" in check(drain(receiver, **token), 401).json["detail"]
        with site(receiver) as opened:
            assert [one.word for one in opened.requests()] == [WANT_KEYS]
            opened.put(OIDC_KEYS, {"at": "", "keys": [issuer.document()]})
        check(drain(receiver, **token), 202)


def test_where_no_audience_is_set_no_identity_is_taken(receiver: Receiver, issuer: Issuer) -> None:
    refused = check(drain(receiver, **bearer(issuer.token())), 401, "unauthorized")
    assert "jobs.oidc_audience is not set" in refused.json["detail"]


def test_an_audience_without_an_account_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="anyone can get a token for an audience"):
        settings_for(tmp_path, jobs__oidc_audience=AUDIENCE)
