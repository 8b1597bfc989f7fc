"""How well a limit is held: bytes on the wire, every 10 ms, ours beside those that people use.

``python -m bench.limit [--quick | --ours | --all]``. Unless told otherwise the peers run at 5 MB/s
over plain HTTP, with small, usual and large files, and ours at other rates as well. A sink in a
program of its own notes when bytes arrive; used is what arrived of what the limit allows, after the
first second. The worst 100 ms, second and ten seconds are what stood above the limit. For ours the
sender's own windows are noted as well: a piece may have left at any moment between its permit and
its write's return.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.rounds import Failed, Figures, Results, interleaved, table
from dev.machine import machine
from headgate.settings.settings import combine
from headgate.spool.image.image import Metadata
from headgate.spool.spool import Spool

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-bench" / "bin"
BIN = 10_000_000  # nanoseconds
SECOND = 10**9
MOST_FILES_A_SECOND = 1_200
"""More than any of them sends on two cores: so many files are laid out and no more."""


@dataclass(frozen=True)
class Case:
    """Files of one size, at one rate, plain or not; ``shed``: one PUT in so many is answered with
    503, as servers do that shed load by design; 0: none."""

    size: int
    rate: int
    tls: bool
    seconds: float
    shed: int = 0

    @property
    def title(self) -> str:
        size = f"{self.size // 10**6} MB" if self.size >= 10**6 else f"{self.size // 1000} KB"
        shed = f", one PUT in {self.shed} is 503" if self.shed else ""
        return f"{size}, {self.rate // 10**6} MB/s, {'TLS' if self.tls else 'plain'}{shed}"

    @property
    def files(self) -> int:
        by_rate = self.rate * (self.seconds + 4) / self.size
        return int(min(by_rate, MOST_FILES_A_SECOND * (self.seconds + 4))) + 40


@dataclass(frozen=True)
class Certificates:
    """What the sink shows, and what the others are told to trust."""

    server: Path
    authority: Path


@dataclass
class Watched:
    """A running sink; ``arrivals`` [nanoseconds, bytes] are there after it was stopped."""

    url: str
    program: subprocess.Popen[str]

    def stop(self) -> list[tuple[int, int]]:
        out, _ = self.program.communicate("")
        return [(at, size) for at, size in json.loads(out)]


@contextlib.contextmanager
def sink(case: Case, certificates: Certificates) -> Iterator[Watched]:
    """A sink for one turn."""
    words = ["--read", str(max(2048, min(32 * 1024, case.rate // 400)))]
    words += ["--cert", str(certificates.server)] if case.tls else []
    words += ["--shed", str(case.shed)] if case.shed else []
    program = subprocess.Popen(
        [sys.executable, "-m", "bench.limit_sink", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    port = program.stdout.readline().strip()
    try:
        yield Watched(f"{'https' if case.tls else 'http'}://127.0.0.1:{port}", program)
    finally:
        program.kill()
        program.wait()
        assert program.stdin is not None
        program.stdin.close()
        program.stdout.close()


def environment(certificates: Certificates) -> dict[str, str]:
    """Credentials that nobody checks, and no settings of this machine's user."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HEADGATE_"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": str(certificates.authority),
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }


# -- what was measured


def windows(arrivals: list[tuple[int, int]], case: Case) -> Figures:
    """Use and the worst windows, in per cent of the rate, without the first second."""
    if not arrivals:
        raise Failed("nothing arrived")
    start = arrivals[0][0] + SECOND
    count = round(case.seconds * SECOND / BIN)
    bins = [0] * count
    for at, size in arrivals:
        number = (at - start) // BIN
        if 0 <= number < count:
            bins[number] += size
    if not any(bins[-count // 10 :]):
        raise Failed(f"it had sent everything, or stopped, within {case.seconds:g} s")
    sums = [0, *itertools.accumulate(bins)]

    def over(span: int) -> float:
        """The busiest so many bins, in per cent above the rate."""
        most = max(b - a for a, b in zip(sums, sums[span:], strict=False))
        return 100 * (most * SECOND / (span * BIN) / case.rate - 1)

    return {
        "used %": 100 * sums[-1] / (case.rate * case.seconds),
        "worst 0.1 s": over(10),
        "worst 1 s": over(100),
        "worst 10 s": over(min(1000, count)),
    }


def worst_second(pieces: list[tuple[int, int, int]]) -> int:
    """The most bytes that may have left within any one second, by the sender's own notes."""
    by_since = sorted(pieces)
    by_until = sorted(pieces, key=lambda piece: piece[1])
    since = [piece[0] for piece in by_since]
    until = [piece[1] for piece in by_until]
    begun = [0, *itertools.accumulate(piece[2] for piece in by_since)]
    ended = [0, *itertools.accumulate(piece[2] for piece in by_until)]
    return max(
        begun[bisect.bisect_left(since, start + SECOND)] - ended[bisect.bisect_left(until, start)]
        for start in until
    )


# -- the contenders


def headgate(case: Case, certificates: Certificates) -> Figures:
    """A whole run: catalog, ledger, durable move to done/ included."""
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as scratch:
        root = Path(scratch)
        with sink(case, certificates) as watched:
            document = {
                "spool": {"path": "spool"},
                "s3": {"bucket": "bench", "endpoint_url": watched.url, "region": "us-east-1"},
                "uplink": {"link": f"{case.rate}B/s", "share": "100%"},
            }
            lines = []
            for section, values in document.items():
                lines += [f"[{section}]", *(f'{k} = "{v}"' for k, v in values.items())]
            (root / "headgate.toml").write_text("\n".join(lines) + "\n")
            _fill(Spool.open(combine(document, None, {}, {}, root)), case)
            notes = root / "pieces.json"
            words = ["--config", str(root / "headgate.toml"), "drain", "--until-empty"]
            ran = subprocess.run(
                [sys.executable, "-m", "bench.limit_drain", str(notes), *words,
                 "--max-time", f"{int(case.seconds) + 4}s"],
                cwd=ROOT, env=environment(certificates), text=True, capture_output=True,
                check=False,
            )  # fmt: skip
            if ran.returncode:
                raise Failed(f"{ran.stdout} {ran.stderr}"[-300:])
            figures = windows(watched.stop(), case)
            worst = worst_second(json.loads(notes.read_text()))
    return {**figures, "sender's 1 s": 100 * (worst / case.rate - 1)}


def _fill(spool: Spool, case: Case) -> None:
    data = os.urandom(case.size)
    try:
        for number in range(case.files):
            with spool.incoming() as incoming:
                incoming.write(data)
                meta = Metadata(incoming.sha256, incoming.size, "image/jpeg", sequence=number)
                spool.accept(incoming, f"cam-{number % 20}", meta)
    finally:
        spool.close()


def peer(
    case: Case,
    certificates: Certificates,
    command: Callable[[str, Path, Path], list[str]],
    **more: str,
) -> Figures:
    """A program that uploads a folder; it is stopped when enough was seen."""
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as scratch:
        root = Path(scratch)
        files = root / "files"
        files.mkdir()
        data = os.urandom(case.size)
        for number in range(case.files):
            (files / f"image-{number:06}.jpg").write_bytes(data)
        with sink(case, certificates) as watched:
            log = root / "log"
            with open(log, "w") as out:
                program = subprocess.Popen(
                    command(watched.url, files, root),
                    env={**environment(certificates), "AWS_CONFIG_FILE": str(root / "aws"), **more},
                    stdout=out,
                    stderr=out,
                    cwd=root,
                )
            try:
                # What a start takes is not known, so one that has ended is looked at as well.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.wait(case.seconds + 6)
            finally:
                program.kill()
                program.wait()
            try:
                return windows(watched.stop(), case)
            except Failed as failure:
                raise Failed(f"{failure}; it said: {log.read_text()[-300:].strip()}") from None


def rclone(case: Case, certificates: Certificates) -> Figures:
    """rclone copy --bwlimit."""

    def command(url: str, files: Path, _root: Path) -> list[str]:
        words = f":s3,provider=Other,env_auth=true,force_path_style=true,endpoint='{url}':bench"
        return [
            _program("rclone"), "copy", "--config", os.devnull, "--bwlimit", f"{case.rate}B",
            "--transfers", "8", "--s3-no-check-bucket", "--ca-cert", str(certificates.authority),
            str(files), words,
        ]  # fmt: skip

    return peer(case, certificates, command, AWS_CA_BUNDLE="")  # it cannot use that one


def aws(case: Case, certificates: Certificates) -> Figures:
    """aws s3 cp with s3.max_bandwidth."""

    def command(url: str, files: Path, root: Path) -> list[str]:
        (root / "aws").write_text(
            f"[default]\ns3 =\n  max_bandwidth = {case.rate // 1024}KB/s\n"
            "  multipart_threshold = 64MB\n  addressing_style = path\n"
        )
        return [
            _program("aws"), "--endpoint-url", url, "s3", "cp", "--recursive", "--no-progress",
            "--only-show-errors", str(files), "s3://bench/",
        ]  # fmt: skip

    return peer(case, certificates, command)


def boto3(case: Case, certificates: Certificates) -> Figures:
    """boto3's transfer manager with max_bandwidth."""

    def command(url: str, files: Path, _root: Path) -> list[str]:
        script = str(ROOT / "bench" / "limit_boto3.py")
        ca = [str(certificates.authority)] if case.tls else []
        return [_program("python"), script, url, str(files), str(case.rate), *ca]

    return peer(case, certificates, command)


def s3cmd(case: Case, certificates: Certificates) -> Figures:
    """s3cmd put --limit-rate, which has one stream."""

    def command(url: str, files: Path, root: Path) -> list[str]:
        host = url.partition("://")[2]
        (root / "s3cfg").write_text("[default]\n")
        return [
            _program("s3cmd"), "-c", str(root / "s3cfg"), "--access_key=b", "--secret_key=b",
            f"--host={host}", f"--host-bucket={host}", "--ssl" if case.tls else "--no-ssl",
            f"--ca-certs={certificates.authority}", f"--limit-rate={case.rate}",
            "--disable-multipart", "--no-progress", "-r", "put", f"{files}/", "s3://bench/",
        ]  # fmt: skip

    return peer(case, certificates, command)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{PEERS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise Failed(f"there is no {name} here (make bench-ready; Debian has rclone)")
    return found


CONTENDERS: Mapping[str, Callable[[Case, Certificates], Figures]] = {
    "headgate": headgate,
    "rclone --bwlimit": rclone,
    "aws s3, max_bandwidth": aws,
    "boto3, max_bandwidth": boto3,
    "s3cmd --limit-rate": s3cmd,
}


def cases(chosen: argparse.Namespace) -> list[tuple[Case, list[str]]]:
    """What is measured, and by whom."""
    ours, everybody = ["headgate"], list(CONTENDERS)
    kilo = 1000
    if chosen.quick:
        return [(Case(250 * kilo, 5 * kilo**2, False, 6.0), everybody)]
    found = [(Case(31 * kilo, 5 * kilo**2, False, 12.0, shed), ours) for shed in (100, 50)]
    for rate, size, tls in itertools.product(
        (5, 1, 40), (250 * kilo, 20 * kilo, 5 * kilo**2), (False, True)
    ):
        beside = rate == 5 and not tls
        if beside or chosen.all or chosen.ours or size == 250 * kilo:
            names = everybody if (beside or chosen.all) and not chosen.ours else ours
            found.append((Case(size, rate * kilo**2, tls, 12.0), names))
    return found


def say(case: Case, results: Results) -> None:
    """One table."""
    columns = [("used %", "{:.2f}"), ("worst 0.1 s", "{:+.1f} %"), ("worst 1 s", "{:+.2f} %"),
               ("worst 10 s", "{:+.2f} %")]  # fmt: skip
    print(f"\n**{case.title}**\n\n{table(results, columns)}", flush=True)
    for value in results.get("headgate", {}).get("sender's 1 s", ()):
        print(f"\nheadgate, at the sender: no second above {value:+.2f} % of the cap")


def main() -> None:
    """The program."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--quick", action="store_true", help="one case, some seconds each")
    flags.add_argument("--all", action="store_true", help="everybody in every case: 35 minutes")
    flags.add_argument("--ours", action="store_true", help="every case, without the peers")
    flags.add_argument("--rounds", type=int, default=1)
    flags.add_argument("--only", default="", help="cases whose title contains this")
    chosen = flags.parse_args()
    print("## Holding a limit\n", machine(), sep="\n")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as scratch:
        certificates = _certificates(Path(scratch))
        for case, names in cases(chosen):
            if chosen.only not in case.title:
                continue
            print(f"{case.title}:", file=sys.stderr)

            def turn(name: str, case: Case = case) -> Callable[[], Figures]:
                return lambda: CONTENDERS[name](case, certificates)

            say(case, interleaved({name: turn(name) for name in names}, chosen.rounds))
    print(f"\n{(time.monotonic() - started) / 60:.0f} minutes")


def _certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    certificates = Certificates(folder / "server.pem", folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(certificates.server)
    )
    authority.cert_pem.write_to_path(str(certificates.authority))
    return certificates


if __name__ == "__main__":
    main()
