"""A gateway's life on a Debian that was never used: docs/INSTALL.md, line by line, and more.

Installed, filled by a camera in another network, emptied by Debian's cron, its logs rotated under a
run, its plug pulled, its clock set back, upgraded, upgraded to a version that does not work, put
behind nginx, handed from cron to systemd's timers and on to a job queue, removed. The camera posts
through all of it, and at the end every image that was acknowledged is in the bucket or in the
spool.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from dev import install
from tests.support import booted
from tests.support.booted import CAMERA, GATEWAY, Booted, Network, everything
from tests.support.booted_gateway import MINUTE, SPOOL, Bucket, Camera, Gateway, procedure, until
from tests.support.paths import ROOT
from tests.support.versions import OLDER, git, older_commit, renumber

SOMEBODY = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.net"]
NOT_HERE = """
_run = run


def run(settings, *more):
    if "8080" in settings.receiver.bind:
        raise SystemExit("not on this port")
    return _run(settings, *more)
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_CLEAN_ROOT") != "1",
        reason="HEADGATE_TEST_CLEAN_ROOT=1 is not set: this makes a Debian and boots it (root)",
    ),
]


def blocks_at(commit: str) -> list[str]:
    """What the page of that commit says to type."""
    shown = subprocess.run(
        ["git", "show", f"{commit}:docs/INSTALL.md"], cwd=ROOT, capture_output=True, text=True
    )
    return re.findall(r"```sh\n(.*?)```", shown.stdout, re.DOTALL)


def older_version(repository: Path) -> str:
    """The newest commit before this one that installs something else by the same commands; where
    the commands have changed since, this one under another version's number."""
    typed = blocks_at("HEAD")
    if commit := older_commit(lambda commit: blocks_at(commit) == typed):
        return commit
    with tempfile.TemporaryDirectory() as copy:
        git("clone", "--quiet", str(repository), copy)
        renumber(Path(copy, "setup.cfg"), OLDER)
        git(*SOMEBODY, "commit", "--quiet", "--all", "--message=Older", folder=Path(copy))
        git("push", "--quiet", "origin", "HEAD:refs/heads/older", folder=Path(copy))
        return git("rev-parse", "HEAD", folder=Path(copy))


@pytest.fixture
def site(fresh_debian: Path) -> Iterator[tuple[Gateway, Camera, Bucket, Network, Path]]:
    with booted.place() as folder, Network() as network, contextlib.ExitStack() as stack:
        tree, repository, wheels = folder / "tree", folder / "headgate.git", folder / "wheels"
        booted.copied(fresh_debian, tree)
        python = next((tree / "usr/bin").glob("python3.[0-9]*")).name.removeprefix("python")
        wheels.mkdir()
        lock = install.lock_of("queue")
        booted.wheels(lock, python, wheels, install.locked_setuptools(folder))
        git("clone", "--quiet", "--bare", str(ROOT), str(repository))
        git("tag", "this", folder=repository)
        git("update-ref", "refs/heads/site", older_version(repository), folder=repository)
        git("symbolic-ref", "HEAD", "refs/heads/site", folder=repository)
        debian = Booted(tree, network, {repository: "/srv/headgate.git", wheels: "/srv/wheels"})
        debian.variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels",
                            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                            "GIT_CONFIG_VALUE_0": "*"}  # fmt: skip
        stack.callback(debian.forget)
        bucket = Bucket(network, folder)
        stack.callback(bucket.process.wait, 20)
        stack.callback(bucket.process.terminate)
        debian.boot()
        pictures = folder / "pictures"
        pictures.mkdir()
        yield Gateway(debian), Camera(network, pictures), bucket, network, folder


def test_no_image_is_lost_from_the_first_line_of_the_page_to_its_last(
    site: tuple[Gateway, Camera, Bucket, Network, Path],
) -> None:
    gateway, camera, bucket, _, folder = site
    debian = gateway.debian
    before = everything(debian.tree)

    install_and_look(gateway)
    camera.token = first_token(gateway)
    assert camera.post(f"http://{GATEWAY}:8080/uploadImage") == 401
    camera.send(12)

    until("cron has sent them", lambda: not gateway.files("new"))
    assert bucket.digests() == set(camera.acknowledged)
    log = debian.tree / "var/log/headgate/drain.log"
    assert '"trigger": "cron"' in log.read_text()
    assert log.stat().st_uid == number(debian, "headgate")

    rotated_under_a_run(gateway, camera, log)

    with camera.posting():
        time.sleep(2)
        waiting = gateway.files("new")
        debian.power_cut()
        set_clock_back(debian)
        debian.boot()
        until("it receives again", lambda: camera.acknowledged.keys() - waiting.keys())
    until("they are sent by cron, two hours earlier", lambda: not gateway.files("new"), 2 * MINUTE)
    assert gateway.status()["unaccounted"] == 0
    set_clock_right(debian)

    debian.run("systemctl stop cron")
    camera.send(3)
    old, _ = gateway.versions()
    publish_this(folder / "headgate.git")
    with camera.posting():
        told = gateway.type("Upgrade")
    new, kept = gateway.versions()
    assert new != old and "the receiver runs again, of this version" in told
    assert kept == {new.split("/")[1], old.split("/")[1]}
    assert len(gateway.files("new")) >= 3, "what waited waits on"
    debian.run("systemctl start cron")
    complete(gateway, camera)
    back_and_forth(gateway, camera, old, new)

    versions_that_do_not_work(gateway, camera, folder)
    behind_nginx(gateway, camera, folder)
    timers_instead_of_cron(gateway, camera)
    a_queue_instead(gateway, camera)

    until("all are sent", lambda: not gateway.files("new"), 2 * MINUTE)
    assert bucket.digests() == set(camera.acknowledged)
    assert debian.run("headgate verify", check=False).startswith("everything agrees") or (
        gateway.status()["unaccounted"] == 0
    )

    debian.run("systemctl stop headgate-worker")
    camera.send(4)
    told = gateway.type("Remove")
    assert "4 images still wait" in told and SPOOL in told
    left = everything(debian.tree) - before
    assert {name for name in left if not f"/{name}".startswith(SPOOL)} <= {"var/lib/headgate"}
    assert bucket.digests() | gateway.files("new").keys() == set(camera.acknowledged)
    assert "headgate" not in (debian.tree / "etc/passwd").read_text()
    assert debian.run("systemctl list-units --all 'headgate*' --no-legend").strip() == ""


def install_and_look(gateway: Gateway) -> None:
    told = gateway.type("Install")
    assert "made: headgate-receiver.service runs" in told
    told = gateway.type("Set the bucket and the bandwidth")
    assert "The server checks the SHA-256" in told
    for check in ("permissions", "users", "receiver", "bucket"):
        assert re.search(rf"^ok +{check} ", told, re.MULTILINE), told
    assert "cron starts no run" in told
    assert "added to /etc/cron.d/headgate" in gateway.type("Start the runs")
    gateway.debian.run("headgate install")  # uplink.interval is another one now
    again = gateway.debian.run("make install", folder="/root/headgate")
    assert again == "everything is as it should be\n"


def publish_this(repository: Path) -> None:
    """What is committed here follows what was installed, for whoever pulls."""
    tree, before = (git("rev-parse", at, folder=repository) for at in ("this^{tree}", "site"))
    made = git(*SOMEBODY, "commit-tree", tree, "-p", before, "-m", "Newer", folder=repository)
    git("update-ref", "refs/heads/site", made, folder=repository)


def back_and_forth(gateway: Gateway, camera: Camera, old: str, new: str) -> None:
    """By hand, as the page says; where the newer version changed the databases, that is said."""
    (line,) = [one for one in procedure("Go back to the version before") if one.startswith("/opt")]
    with camera.posting():
        told = gateway.debian.run(line.replace("OLD", old.split("/")[1]), check=False)
    if "too new" in told:
        assert "nothing was changed" in told and gateway.versions()[0] == new
        return
    assert "the receiver runs again, of this version" in told, told
    assert gateway.versions()[0] == old
    camera.send(1)
    gateway.debian.run("make install", folder="/root/headgate")
    assert gateway.versions() == (new, {new.split("/")[1], old.split("/")[1]})


def first_token(gateway: Gateway) -> str:
    (token,) = re.findall(r"^cam-01,(\S+)$", gateway.type("The first camera"), re.MULTILINE)
    return str(token)


def number(debian: Booted, user: str) -> int:
    return int(debian.run(f"id -u {user}"))


def person(debian: Booted) -> str:
    """What curl needs to ask as a user who is logged in: a file with the cookies."""
    jar, page, password = "/root/cookies", "http://127.0.0.1:8080/login", "four words make one"
    curl = f"curl -sS -b {jar} -c {jar}"
    debian.run(f"echo {shlex.quote(password)} | headgate user add otto --role viewer")
    (token,) = re.findall(r'name="form_token" value="([^"]+)"', debian.run(f"{curl} {page}"))
    fields = ("name=otto", f"password={password}", f"form_token={token}")
    told = " ".join(f"--data-urlencode {shlex.quote(field)}" for field in fields)
    said = debian.run(f"{curl} -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {told} {page}")
    assert said == "303 http://127.0.0.1:8080/", said
    return f"-b {jar}"


def isolated(gateway: Gateway, viewer: str) -> None:
    """The receiver's user is shut out of the keys, and its unit of nearly everything else."""
    debian = gateway.debian
    keys = "/var/lib/headgate/.aws/credentials"
    assert "Permission denied" in debian.run(
        f"runuser -u headgate-receiver -- cat {keys}", check=False
    )
    for unit in ("receiver", "drain", "watch", "ftp", "smtp", "intake"):
        bounded(debian, unit)
    (image, *_) = json.loads(debian.run("headgate list --json --limit 1"))
    where = f"http://127.0.0.1:8080/images/{image['id']}/thumbnail"
    told = f"-sS -o /dev/null -w '%{{http_code}} %{{content_type}}' {viewer}"
    said = debian.run(f"curl {told} {where}")
    assert said == "200 image/jpeg", debian.run(f"curl -sS {viewer} {where}")


def bounded(debian: Booted, unit: str) -> None:
    said = debian.run(f"systemd-analyze security --no-pager headgate-{unit}.service")
    (exposure,) = re.findall(r"exposure level for headgate-\S+: ([\d.]+)", said)
    assert float(exposure) < 2.0, said


def complete(gateway: Gateway, camera: Camera) -> None:
    """What the wheel brought beside the programs is in its places, and isolated as ever."""
    debian = gateway.debian
    shut = f"curl -sS -o /dev/null -w '%{{http_code}}' {shlex.join(camera.bearer())}"
    assert debian.run(f"{shut} http://127.0.0.1:8080/") == "403", "a device's token opens no page"
    viewer = person(debian)
    page = debian.run(f"curl -sS {viewer} http://127.0.0.1:8080/")
    for style in re.findall(r'href="(/static/[^"]+)"', page):
        debian.run(f"curl -sSf -o /dev/null http://127.0.0.1:8080{style}")
    for name in ("headgate", "headgate-receiver"):
        assert (debian.tree / f"usr/local/share/man/man1/{name}.1").is_file()
    completes = debian.tree / "usr/local/share/bash-completion/completions/headgate"
    debian.run("bash -n /usr/local/share/bash-completion/completions/headgate")
    assert "_HEADGATE_COMPLETE" in completes.read_text()
    assert "/static/" in page, "the wheel brought the page and what it is made of"
    isolated(gateway, viewer)


def rotated_under_a_run(gateway: Gateway, camera: Camera, log: Path) -> None:
    """A run under way writes on into the file that it opened, the next one into a new one."""
    debian = gateway.debian
    camera.send(40)
    slow = "--set uplink.link=6kB/s --set uplink.share=20%"
    run = f"runuser -u headgate -- headgate {slow} drain --cron --max-time 15s"
    with subprocess.Popen(debian.command(run)) as running:
        seen = log.read_text().count("run.started")
        until("the run has begun", lambda: log.read_text().count("run.started") > seen, 30)
        debian.run("logrotate -f /etc/logrotate.d/headgate")
        assert log.read_text() == ""
        running.wait(60)
    older = log.with_name("drain.log.1")
    _, _, after = older.read_text().rpartition("run.started")
    assert after.count("run.ended") == 1  # what alerts say may follow
    until("the next run has written into the new file", lambda: "run.ended" in log.read_text())
    assert log.stat().st_mode & 0o777 == 0o640


def set_clock_back(debian: Booted) -> None:
    """Two hours, for the receiver and what cron starts: the clock itself is this machine's."""
    library = next((debian.tree / "usr/lib").rglob("faketime/libfaketime.so.1"))
    fake = {
        "LD_PRELOAD": f"/{library.relative_to(debian.tree)}",
        "FAKETIME": "-2h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    drop_in = debian.tree / "etc/systemd/system/headgate-receiver.service.d/clock.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n" + "".join(f"Environment={k}={v}\n" for k, v in fake.items()))
    tab = debian.tree / "etc/cron.d/headgate"
    tab.write_text("".join(f"{k}={v}\n" for k, v in fake.items()) + tab.read_text())


def set_clock_right(debian: Booted) -> None:
    """What libfaketime does to sleeping threads is not the receiver's business either."""
    debian.run("rm -r /etc/systemd/system/headgate-receiver.service.d && systemctl daemon-reload")
    tab = debian.tree / "etc/cron.d/headgate"
    tab.write_text("MAILTO=root\n" + tab.read_text()[tab.read_text().index("* * * * *") :])
    debian.run("systemctl restart headgate-receiver")


def versions_that_do_not_work(gateway: Gateway, camera: Camera, folder: Path) -> None:
    """One whose receiver ends at once, and one that ends only on this site: both stay out."""
    before = gateway.versions()[0]
    for mistake, said in (
        ('raise RuntimeError("a mistake of ours")', "a mistake of ours; nothing was changed"),
        (NOT_HERE, "the version before runs again"),
    ):
        repository, copy = folder / "headgate.git", folder / "copy"
        git("clone", "--quiet", str(repository), str(copy))
        server = copy / "app" / "server" / "server.py"
        server.write_text(f"{server.read_text()}\n{mistake}\n")
        git(*SOMEBODY, "commit", "--quiet", "--all", "--message=Break it", folder=copy)
        git("push", "--quiet", "origin", "HEAD:refs/heads/site", folder=copy)
        shutil.rmtree(copy)
        with camera.posting():
            told = gateway.debian.run(
                "git pull -q && make install", folder="/root/headgate", check=False
            )
        assert said in told
        assert gateway.versions()[0] == before
        assert gateway.debian.run("systemctl is-active headgate-receiver").strip() == "active"
        git("update-ref", "refs/heads/site", "site~1", folder=repository)
        gateway.debian.run("git reset -q --hard HEAD~1 && make install", folder="/root/headgate")
        assert gateway.versions()[0] == before


def behind_nginx(gateway: Gateway, camera: Camera, folder: Path) -> None:
    """TLS, and nobody is taken for this machine itself because nginx is on it."""
    debian = gateway.debian
    authority = trustme.CA()
    certificate = authority.issue_cert(GATEWAY)
    tls = debian.tree / "etc/headgate/tls"
    tls.mkdir()
    certificate.private_key_pem.write_to_path(tls / "privkey.pem")
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    (tls / "fullchain.pem").write_bytes(chain)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    debian.run("cp headgate/deploy/nginx/headgate.conf /etc/nginx/conf.d/")
    debian.run("nginx -t && systemctl restart nginx")
    url, trust = f"https://{GATEWAY}/uploadImage", ["--cacert", str(folder / "ca.pem")]
    assert camera.post(url, *trust) == 401
    assert camera.post(url, *trust, "-H", "Forwarded: for=127.0.0.1") == 401
    assert camera.post(url, *trust, *camera.bearer()) == 201
    seen = debian.run("journalctl -u headgate-receiver -n 50 --no-pager")
    assert CAMERA not in seen or "401" not in seen  # nothing of this is an error of the receiver's
    shutil.rmtree(tls)
    debian.run("rm /etc/nginx/conf.d/headgate.conf && systemctl restart nginx")


def timers_instead_of_cron(gateway: Gateway, camera: Camera) -> None:
    """Handed over in one step, and never both."""
    debian = gateway.debian
    debian.run("headgate install --schedule timer")
    assert not (debian.tree / "etc/cron.d/headgate").exists()
    assert "headgate-drain.timer starts the runs here" in debian.run(
        "headgate cron install", check=False
    )
    for timer in ("drain", "watch"):
        assert debian.run(f"systemctl is-active headgate-{timer}.timer").strip() == "active"
    camera.send(3)
    until("the timer's run has sent them", lambda: not gateway.files("new"))
    journal = debian.run("journalctl -u headgate-drain -o cat --no-pager")
    assert '"trigger": "schedule"' in journal
    assert debian.run("systemctl list-units --failed --no-legend 'headgate*'") == ""


def a_queue_instead(gateway: Gateway, camera: Camera) -> None:
    """What docs/QUEUE.md says: the extra, the settings, the worker's unit, and cron's floor."""
    debian = gateway.debian
    debian.run("systemctl enable --now redis-server")
    told = debian.run("make install EXTRAS=queue", folder="/root/headgate")
    assert "the receiver runs again, of this version" in told
    assert "everything is as it should be" in debian.run("make install", folder="/root/headgate")
    config = debian.tree / "etc/headgate/headgate.toml"
    text = re.sub(r"^\[uplink\]\n", '[uplink]\ntrigger = "queue"\n', config.read_text(), flags=re.M)
    config.write_text(f'{text}\n[queue]\nbroker = "redis://127.0.0.1:6379/0"\n')
    debian.run("headgate install --schedule cron && headgate cron install")
    assert "drain --cron" in (debian.tree / "etc/cron.d/headgate").read_text()
    debian.run("systemctl enable --now headgate-worker")
    camera.send(3)
    until("a message's run has sent them", lambda: not gateway.files("new"), 2 * MINUTE)
    fired = {one["kind"]: one for one in gateway.status()["triggers"]}
    assert fired["queue"]["last_at"] and fired["queue"]["sender"] == "beat"
    assert "a message is due every" in debian.run("headgate doctor", check=False)
    bounded(debian, "worker")
    debian.run("systemctl restart headgate-worker && systemctl is-active headgate-worker")
    assert debian.run("systemctl list-units --failed --no-legend 'headgate*'") == ""
