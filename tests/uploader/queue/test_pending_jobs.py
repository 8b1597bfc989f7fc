"""Jobs that wait on disk: carried out by the watch, by any run, for one device; and the keys of
identity tokens, fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from headgate.spool.site.jobs import OIDC_KEYS, WANT_KEYS, Job, new_id
from headgate.spool.spool import Spool, utc_now
from tests.support.gateway import Gateway
from tests.support.http_server import Handler, serving
from tests.support.spooling import put
from uploader.queue import oidc_keys, pending_jobs


def ask(spool: Spool, **of: Any) -> Job:
    return spool.site.jobs.ask(Job(new_id(), "http", "ops", utc_now(), **of), 100)


def after(spool: Spool, job: Job) -> Job:
    found = spool.site.jobs.get(job.id)
    assert found is not None
    return found


def test_crons_watch_carries_out_what_waits(gateway: Gateway) -> None:
    images = gateway.fill(5)
    job = ask(gateway.spool)
    ran = gateway.call("watch", "--cron")
    assert (ran.returncode, ran.stdout) == (0, "")
    gateway.assert_arrived(images)
    done = after(gateway.spool, job)
    assert (done.state, done.outcome, done.images, done.bytes) == ("done", "done", 5, 10_000)
    assert done.wire_bytes > done.bytes
    (run,) = gateway.spool.site.runs(5)
    assert (run.id, run.trigger) == (done.run, "http")


def test_a_look_by_hand_and_one_where_nothing_waits_start_no_run(gateway: Gateway) -> None:
    gateway.call("watch", "--cron")
    job = ask(gateway.spool)
    gateway.call("watch")
    assert gateway.spool.site.runs(5) == ()
    assert after(gateway.spool, job).state == "queued"


def test_any_run_carries_out_what_waits_and_a_bounded_one_only_its_own(gateway: Gateway) -> None:
    images = gateway.fill(3)
    own, other = ask(gateway.spool, max_bytes=2000), ask(gateway.spool, device="cam-1")
    report = gateway.json("drain", "--job", own.id, "--max-bytes", "2kB", "--trigger", "http")
    done = after(gateway.spool, own)
    assert (done.run, done.images, done.outcome) == (report["id"], 1, "batch sent")
    assert after(gateway.spool, other).state == "queued"
    gateway.json("drain")
    assert after(gateway.spool, other).images == 2
    gateway.assert_arrived(images)


def test_a_job_for_one_device_leaves_the_others_alone(gateway: Gateway) -> None:
    ours = [put(gateway.spool, b"a%d" % n, device="cam-7").receipt.id for n in range(3)]
    theirs = [put(gateway.spool, b"b%d" % n, device="cam-8").receipt.id for n in range(3)]
    job = ask(gateway.spool, device="cam-7")
    assert gateway.call("watch", "--cron").returncode == 0
    stored = {key.rpartition("/")[2].removesuffix(".jpg") for key in gateway.objects()}
    assert stored == set(ours)
    assert after(gateway.spool, job).outcome == "done"
    assert gateway.json("drain", "--device", "cam-7")["outcome"] == "nothing to do"
    assert gateway.json("drain")["images"] == len(theirs)


def test_beside_a_run_it_waits_for_the_next_look(gateway: Gateway) -> None:
    job = ask(gateway.spool)
    with gateway.spool.hold_drain_lock("somebody", 0):
        assert pending_jobs.carry_out(gateway.spool) == 0
    assert after(gateway.spool, job).state == "queued"


def test_where_a_worker_takes_them_they_are_its_for_two_minutes(gateway: Gateway) -> None:
    gateway.write(uplink={"trigger": "queue"}, queue={"broker": "redis://127.0.0.1/0"})
    with closing(Spool.open(gateway.settings())) as spool:
        fresh = ask(spool)
        assert pending_jobs.carry_out(spool) == 0
        old = Job(new_id(), "http", "ops", utc_now() - timedelta(minutes=3), device="cam-9")
        spool.site.jobs.ask(old, 100)
        assert pending_jobs.carry_out(spool) == 1
        assert (after(spool, old).state, after(spool, fresh).state) == ("done", "queued")


# -- the keys of identity tokens


@dataclass
class Issuer:
    """Serves a JWK set, and counts how often it is asked."""

    url: str = ""
    asked: int = 0
    body: bytes = json.dumps({"keys": [{"kid": "key-1", "kty": "RSA"}]}).encode()


@contextmanager
def issuing() -> Iterator[Issuer]:
    issuer = Issuer()

    class Serves(Handler):
        def do_GET(self) -> None:
            issuer.asked += 1
            self.answer(200, issuer.body)

    with serving(Serves) as port:
        issuer.url = f"http://127.0.0.1:{port}/certs"
        yield issuer


def test_keys_are_fetched_when_missing_old_or_asked_for(gateway: Gateway) -> None:
    with issuing() as issuer:
        jobs = {"oidc_audience": "x", "oidc_email": "a@b.example", "oidc_keys": issuer.url}
        gateway.write(jobs=jobs)
        now = [utc_now()]
        with closing(Spool.open(gateway.settings(), now=lambda: now[0])) as spool:
            assert oidc_keys.refresh(spool)
            assert spool.site.get(OIDC_KEYS)["keys"] == [{"kid": "key-1", "kty": "RSA"}]
            assert not oidc_keys.refresh(spool)
            now[0] += timedelta(hours=7)
            assert oidc_keys.refresh(spool)
            spool.site.add_request(WANT_KEYS, "", now[0])
            assert not oidc_keys.refresh(spool)  # not again at once
            now[0] += timedelta(minutes=6)
            assert oidc_keys.refresh(spool)
            assert spool.site.requests() == []
            assert issuer.asked == 3
        issuer.body = b"<html>sorry</html>"
        assert gateway.call("watch", "--cron").returncode == 0  # its clock is hours behind
        assert gateway.spool.site.get(OIDC_KEYS)["keys"]  # the old ones stay good
        assert issuer.asked == 4


def test_without_an_audience_or_with_a_file_nobody_is_asked(gateway: Gateway) -> None:
    assert not oidc_keys.refresh(gateway.spool)
    gateway.write(jobs={"oidc_audience": "x", "oidc_email": "a@b.example", "oidc_keys": "k.json"})
    settings = gateway.settings()
    assert settings.jobs.oidc_keys == str(gateway.root / "k.json")
    with closing(Spool.open(settings)) as spool:
        assert not oidc_keys.refresh(spool)
