"""Small pictures: made apart from the receiver, and of nothing that is no image."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from app import create_app
from app.admission.admission import Gate
from app.page import thumbnails
from app.page.placeholder import WIDTH_OF_NOT_YET, placeholder
from app.page.thumbnail_worker import FORMATS, NO_IMAGE, SIDE
from app.page.thumbnails import LARGEST, WAITING_MOST, Thumbnails
from app.refusals import Refused
from headgate.host import confinement
from headgate.spool.disk.room import FreeSpace
from headgate.spool.image.image import Sent
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.paths import PHOTOS
from tests.support.spooling import open_spool, put
from tests.support.wait import wait_until

Photo = Callable[[], bytes]
DECODE = Path(thumbnails.__file__).with_name("thumbnail_worker.py")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, spool__keep_free="0B", spool__keep_done="0s")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is too slow to start the decoder in time."""
    monkeypatch.setattr(thumbnails, "_SECONDS", 120)


@pytest.fixture
def client(spool: Spool) -> FlaskClient:
    return create_app(spool).test_client()


def picture(answer: bytes) -> Image.Image:
    with Image.open(io.BytesIO(answer), formats=["JPEG"]) as image:
        image.load()
        return image


@pytest.mark.parametrize("file", sorted(path.name for path in PHOTOS.iterdir()
                                        if path.suffix in (".jpg", ".png")))  # fmt: skip
def test_every_photograph_has_one(spool: Spool, client: FlaskClient, file: str) -> None:
    image = put(spool, (PHOTOS / file).read_bytes()).receipt
    answer = client.get(f"/images/{image.id}/thumbnail")
    assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
    assert max(picture(answer.data).size) == SIDE
    assert len(answer.data) < 64_000


def test_it_is_found_wherever_the_image_is_and_gone_with_it(
    spool: Spool, client: FlaskClient, photo: Photo
) -> None:
    image = put(spool, photo()).receipt
    item = spool.catalog.get(image.id)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        mover.set_aside(item, "no", spool.now())
        assert client.get(f"/images/{image.id}/thumbnail").status_code == 200
        mover.retry(image.id)
        mover.finish([(item, Sent("north", "key", "etag"))], spool.now())
        spool.thumbnails.give_up()
        again = create_app(spool).test_client()
        assert again.get(f"/images/{image.sha256}/thumbnail").status_code == 200
        mover.prune(spool.now().replace(year=2090))
    other_process = create_app(spool).test_client()
    for each in (client, other_process):
        assert each.get(f"/images/{image.id}/thumbnail").status_code == 200  # kept on disk
    spool.thumbnails.give_up()
    gone = client.get(f"/images/{image.id}/thumbnail")
    assert (gone.status_code, gone.json["code"]) == (404, "no_thumbnail")  # type: ignore[index]
    shown = client.get(f"/images/{image.id}/thumbnail?placeholder")
    assert (shown.status_code, shown.content_type) == (200, "image/svg+xml")
    assert "no longer on this disk" in shown.text and "script" not in shown.text
    assert shown.headers["Content-Security-Policy"] == "default-src 'none'"


def test_thumbnails_go_before_an_upload_is_refused_for_want_of_room(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = b"\xff\xd8 small \xff\xd9"

    def disk() -> FreeSpace:
        free = 0 if spool.thumbnails.get("image") else 1 << 40
        return FreeSpace(free, 0, 1 << 20)

    monkeypatch.setattr(spool, "disk", disk)
    gate = Gate(spool)
    for ask in (lambda: gate.check_open(1000), lambda: gate.reserved(1000).__enter__()):
        assert spool.thumbnails.put("image", small, 1 << 40, 1 << 20)
        ask()
        assert spool.thumbnails.get("image") is None


def made_busy() -> bytes:
    raise Refused("thumbnails_busy")


def test_requests_that_find_the_decoder_taken_are_told_to_come_back(
    spool: Spool, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them may hold a thread that an upload needs."""
    images = [put(spool, photo()).receipt for _ in range(WAITING_MOST + 2)]
    made = Thumbnails(spool, spool.admission)
    began, go = threading.Event(), threading.Event()

    def slow(_receipt: object) -> bytes:
        began.set()
        assert go.wait(60)
        return b"small"

    monkeypatch.setattr(made, "_make", slow)
    with ThreadPoolExecutor(len(images)) as pool:
        taken = [pool.submit(made.of, image) for image in images[:-1]]
        assert began.wait(60)
        wait_until(lambda: made._places._value == 0, "all places are taken")
        with pytest.raises(Refused) as refused:
            made.of(images[-1])
        go.set()
        assert [one.result(60) for one in taken] == [b"small"] * len(taken)
    assert (refused.value.refusal.code, refused.value.retry_after) == ("thumbnails_busy", 2)
    assert made.of(images[-1]) == b"small"
    busy = placeholder("not made yet", WIDTH_OF_NOT_YET)
    monkeypatch.setattr(Thumbnails, "of", lambda *_: made_busy())
    client = create_app(spool).test_client()
    drawn = client.get(f"/images/{images[0].id}/thumbnail?placeholder")
    assert (drawn.status_code, drawn.data, drawn.headers["Cache-Control"]) == (
        503,
        busy,
        "no-store",
    )


def bomb() -> bytes:
    """Small on the line, too large in memory: a good PNG of 900 million black pixels."""
    side = 30_000
    packed = zlib.compressobj(1)
    rows = packed.compress(bytes((1 + side // 8) * side)) + packed.flush()
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0),
        b"IDAT": rows,
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


@pytest.mark.parametrize("kind", ["nothing", "text", "cut", "bomb", "script"])
def test_what_is_no_image_has_none(spool: Spool, client: FlaskClient, kind: str) -> None:
    data = {
        "nothing": lambda: b"\0",
        "text": lambda: b"<svg onload=alert(1)>",
        "cut": lambda: (PHOTOS / "rocket.jpg").read_bytes()[:400],
        "bomb": bomb,
        "script": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }[kind]()
    image = put(spool, data).receipt
    for _ in range(2):
        answer = client.get(f"/images/{image.id}/thumbnail")
        assert (answer.status_code, answer.json["code"]) == (404, "no_thumbnail")  # type: ignore[index]


def test_a_name_that_leads_elsewhere_is_not_followed(
    spool: Spool, client: FlaskClient, photo: Photo, tmp_path: Path
) -> None:
    image = put(spool, photo()).receipt
    path = spool.files.in_new(image.name)
    path.unlink()
    for made in (lambda: path.symlink_to(PHOTOS / "rocket.jpg"), lambda: os.mkfifo(path)):
        made()
        assert client.get(f"/images/{image.id}/thumbnail").status_code == 404
        path.unlink()


def test_it_is_made_once_and_kept(
    spool: Spool, client: FlaskClient, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(spool, photo()).receipt
    first = client.get(f"/images/{image.id}/thumbnail").data
    monkeypatch.setattr(subprocess, "Popen", None)
    assert client.get(f"/images/{image.id}/thumbnail").data == first


@pytest.fixture(scope="module")
def confines() -> None:
    if why := confinement.why_not():
        pytest.skip(f"thumbnails are off on this machine: {why}")


HOSTILE = """
import ctypes, fcntl, mmap, os, resource, signal, socket, subprocess, sys, threading
from headgate.host.confinement import confine

libc = ctypes.CDLL(None, use_errno=True)
victim, folder, pid, port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def by_number(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), number)

def shared():
    mmap.mmap(0, 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

tries = {
    "read": lambda: os.open(victim, os.O_RDONLY),
    "write": lambda: os.open(victim, os.O_WRONLY),
    "make": lambda: os.open(victim + ".new", os.O_WRONLY | os.O_CREAT, 0o600),
    "reopen": lambda: os.open("/proc/self/fd/0", os.O_RDWR),
    "write what is open": lambda: os.write(0, b"x"),
    "map what is open": shared,
    "unlink": lambda: os.unlink(victim),
    "rename": lambda: os.rename(victim, victim + ".moved"),
    "link": lambda: os.link(victim, victim + ".link"),
    "symlink": lambda: os.symlink(victim, victim + ".link"),
    "mkdir": lambda: os.mkdir(victim + ".folder"),
    "rmdir": lambda: os.rmdir(folder),
    "truncate": lambda: os.truncate(victim, 0),
    "ftruncate": lambda: os.ftruncate(0, 0),
    "chmod": lambda: os.chmod(victim, 0o777),
    "fchmod": lambda: os.fchmod(0, 0o777),
    "chown": lambda: os.fchown(0, 1, 1),
    "utime": lambda: os.utime(victim),
    "setxattr": lambda: os.setxattr(0, "user.headgate", b"x"),
    "removexattr": lambda: os.removexattr(0, "user.headgate"),
    "list": lambda: os.listdir(folder),
    "chdir": lambda: os.chdir(folder),
    "chroot": lambda: os.chroot(folder),
    "mount": lambda: call("mount", b"none", folder.encode(), b"tmpfs", 0, None),
    "unshare": lambda: call("unshare", 0x10000000),
    "kill": lambda: os.kill(pid, signal.SIGKILL),
    "kill all": lambda: os.kill(-1, 0),
    "signal by owner": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, pid),
    "ptrace": lambda: call("ptrace", 16, pid, None, None),
    "limits of another": lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),
    "priority of another": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "thread": lambda: threading.Thread(target=int).start(),
    "socket": lambda: socket.socket(),
    "local socket": lambda: socket.socket(socket.AF_UNIX),
    "pipe": os.pipe,
    "io_uring": lambda: by_number(425, 4, None),
    "bpf": lambda: by_number(321, 0, None, 0),
    "memory": lambda: bytearray(2 << 30),
}
confine()
for what, attempt in tries.items():
    try:
        attempt()
    except (OSError, RuntimeError, MemoryError) as error:
        said = f"refused: {error}"
    else:
        said = "DONE"
    os.write(1, f"{what}: {said}\\n".encode())
"""


def known(path: Path) -> tuple[int, ...]:
    seen = path.stat()
    return seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, seen.st_size, seen.st_mtime_ns


def test_whoever_takes_over_the_decoder_has_nothing(confines: None, tmp_path: Path) -> None:
    victim, folder = tmp_path / "image.jpg", tmp_path / "folder"
    victim.write_bytes(b"an image")
    os.setxattr(victim, "user.headgate", b"what is known of it")
    folder.mkdir()
    before = known(victim)
    with socket.create_server(("127.0.0.1", 0)) as server, victim.open("rb") as image:
        other = subprocess.Popen(["sleep", "300"])
        try:
            port = server.getsockname()[1]
            ran = subprocess.run(
                [sys.executable, "-I", "-c", HOSTILE, victim, folder, str(other.pid), str(port)],
                stdin=image, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert other.poll() is None
        finally:
            other.kill()
            other.wait(60)
    said = dict(line.split(": ", 1) for line in ran.stdout.splitlines())
    assert len(said) >= 40, (ran.stdout, ran.stderr)
    assert {what for what, how in said.items() if how == "DONE"} == set()
    assert (victim.read_bytes(), known(victim)) == (b"an image", before)
    assert os.getxattr(victim, "user.headgate") == b"what is known of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "image.jpg"]


@pytest.mark.parametrize("layer", ["_forbid_files", "_forbid_calls"])
def test_each_layer_alone_keeps_files_as_they_are(
    confines: None, tmp_path: Path, layer: str
) -> None:
    """Neither is there for show: with the other one gone, it holds."""
    victim = tmp_path / "image.jpg"
    victim.write_bytes(b"an image")
    other = {"_forbid_files": "_forbid_calls", "_forbid_calls": "_forbid_files"}[layer]
    program = f"""
import os, sys
from headgate.host import confinement
from headgate.spool.disk.room import FreeSpace
confinement.{other} = lambda libc: None
attempts = (
    lambda: os.unlink(sys.argv[1]),
    lambda: os.rename(sys.argv[1], sys.argv[1] + ".moved"),
    lambda: os.open(sys.argv[1], os.O_WRONLY),
    lambda: os.mkdir(sys.argv[1] + ".folder"),
)
confinement.confine()
refused = 0
for attempt in attempts:
    try:
        attempt()
    except OSError:
        refused += 1
os.write(1, str(refused).encode())
"""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program, victim], capture_output=True, timeout=60
    )
    assert (ran.stdout, ran.stderr) == (b"4", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["image.jpg"]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_kind_that_can_be_decoded_has_one(
    confines: None, spool: Spool, client: FlaskClient, kind: str
) -> None:
    if kind not in Image.SAVE and not Image.init() and kind not in Image.SAVE:
        pytest.skip(f"this Pillow makes no {kind}")
    data = io.BytesIO()
    Image.effect_noise((640, 480), 40).convert("RGB").save(data, kind)
    image = put(spool, data.getvalue()).receipt
    answer = client.get(f"/images/{image.id}/thumbnail")
    assert (answer.status_code, answer.content_type) == (200, "image/jpeg"), answer.text
    assert picture(answer.data).size == (320, 240)


def test_where_it_cannot_be_confined_nothing_is_decoded_and_doctor_says_so(
    spool: Spool, client: FlaskClient, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without Landlock, acted by a program that says what the decoder says there."""
    acts = tmp_path / "worker.py"
    acts.write_text(
        "import sys\n"
        "from headgate.host import confinement\n"
        "confinement._CREATE_RULESET = 100_000  # the number of no system call\n"
        f"sys.path.insert(0, {str(DECODE.parent)!r})\n"
        "import thumbnail_worker\n"
        "thumbnail_worker.main()\n"
    )
    monkeypatch.setattr(thumbnails, "_PROGRAM", acts)
    image = put(spool, photo()).receipt
    for _ in range(2):
        answer = client.get(f"/images/{image.id}/thumbnail")
        assert (answer.status_code, answer.json["code"]) == (404, "no_thumbnail")  # type: ignore[index]
        assert "thumbnails are off: this kernel has no Landlock" in answer.json["detail"]  # type: ignore[index]
    monkeypatch.setattr(thumbnails, "_PROGRAM", DECODE)
    if not confinement.why_not():
        client = create_app(spool).test_client()
        assert client.get(f"/images/{image.id}/thumbnail").status_code == 200  # not remembered


def acting(tmp_path: Path, what: str) -> Path:
    """A program that takes the decoder's place, and does this for each image."""
    acts = tmp_path / "worker.py"
    acts.write_text(
        "import os, socket\n"
        "asked = socket.socket(fileno=0)\n"
        "while True:\n"
        "    message, files, _, _ = socket.recv_fds(asked, 1, 2)\n"
        "    if not message: break\n"
        "    os.dup2(files[1], 1)\n"
        "    for file in files: os.close(file)\n"
        f"    {what}\n"
        "    os.close(1)\n"
        "    asked.send(bytes([0]))\n"
    )
    return acts


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_no_more_is_read_of_the_decoder_than_a_small_picture_has(
    spool: Spool, client: FlaskClient, photo: Photo, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, more: int,
) -> None:  # fmt: skip
    acts = acting(tmp_path, f"os.write(1, b'x'); os.write(1, bytes({LARGEST + more - 1}))")
    monkeypatch.setattr(thumbnails, "_PROGRAM", acts)
    image = put(spool, photo()).receipt
    answer = client.get(f"/images/{image.id}/thumbnail")
    assert answer.status_code == (404 if more > 0 else 200)


def test_a_decoder_that_never_stops_writing_is_ended(
    spool: Spool, client: FlaskClient, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = acting(tmp_path, "while True: os.write(1, bytes(65536))")
    monkeypatch.setattr(thumbnails, "_PROGRAM", acts)
    image = put(spool, photo()).receipt
    assert client.get(f"/images/{image.id}/thumbnail").status_code == 404


def test_a_decoder_that_has_ended_is_started_again(
    spool: Spool, client: FlaskClient, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after a while without an image: it is no reason not to show the next."""
    first = acting(tmp_path, r"os.write(1, b'\xff\xd8\xff\xd9'); asked.send(bytes([0])); break")
    monkeypatch.setattr(thumbnails, "_PROGRAM", first)
    images = [put(spool, photo()).receipt for _ in range(2)]
    for image in images:
        assert client.get(f"/images/{image.id}/thumbnail").status_code == 200


def test_the_decoder_says_that_it_is_no_image() -> None:
    ran = subprocess.run([sys.executable, "-I", DECODE], input=b"x", capture_output=True)
    assert (ran.returncode, ran.stdout) == (NO_IMAGE, b"")
