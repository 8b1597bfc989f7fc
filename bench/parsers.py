"""``python -m bench.parsers``: multipart parsers alone, pushed the pieces that a server reads.

Each runs in the environment that it is installed in: ``multipart`` is the receiver's, the others
are peers. Only the parser is timed; what it finds is counted and thrown away.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from functools import partial
from typing import Any

from bench.receive.contenders import PEERS_BIN, ROOT
from bench.receive.images import Image, Requests
from bench.rounds import Failed, Figures, interleaved, table
from dev.machine import machine

SIZES = {"20 KB": 20_000, "250 KB": 250_000, "5 MB": 5_000_000}
PIECES = (64 * 1024, 256 * 1024)
BOUNDARY = "----geckoformboundary6f0d1a"
CONTENDERS = {
    "multipart": sys.executable,
    "python-multipart": str(PEERS_BIN / "python"),
    "Werkzeug": sys.executable,
}


def parse_multipart(pieces: list[bytes]) -> int:
    """Bytes of all parts, by multipart's push parser."""
    from multipart import PushMultipartParser

    parser, found = PushMultipartParser(BOUNDARY), 0
    for piece in pieces:
        for event in parser.parse(piece):
            if isinstance(event, bytes | bytearray):
                found += len(event)
    parser.close()
    return found


def parse_python_multipart(pieces: list[bytes]) -> int:
    """The same, by python-multipart's."""
    module: Any = __import__("python_multipart")
    found = 0

    def on_part_data(_data: bytes, start: int, end: int) -> None:
        nonlocal found
        found += end - start

    parser = module.MultipartParser(BOUNDARY, {"on_part_data": on_part_data})
    for piece in pieces:
        parser.write(piece)
    parser.finalize()
    return found


def parse_werkzeug(pieces: list[bytes]) -> int:
    """The same, by Werkzeug's decoder, which Flask's ``request.files`` uses."""
    module: Any = __import__("werkzeug.sansio.multipart", fromlist=["MultipartDecoder"])
    decoder, found = module.MultipartDecoder(BOUNDARY.encode()), 0
    for piece in [*pieces, None]:
        decoder.receive_data(piece)
        event = decoder.next_event()
        while not isinstance(event, module.NeedData | module.Epilogue):
            if isinstance(event, module.Data):
                found += len(event.data)
            event = decoder.next_event()
    return found


PARSERS = {
    "multipart": parse_multipart,
    "python-multipart": parse_python_multipart,
    "Werkzeug": parse_werkzeug,
}


def measure(name: str, size: int, piece: int, bodies: int) -> float:
    """CPU milliseconds a body, in this interpreter; Failed if a byte of it was not found."""
    body = b"".join(Requests(Image.of(size)).pieces(7)).partition(b"\r\n\r\n")[2]
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    parse = PARSERS[name]
    if parse(pieces) != size + len("cam-0007"):
        raise Failed("it did not find all bytes")
    started = time.process_time()
    for _ in range(bodies):
        parse(pieces)
    return (time.process_time() - started) / bodies * 1e3


def turn(name: str, size: int, quick: bool) -> Figures:
    """One contender, in a program of its own."""
    bodies = max(20, (40_000_000 if quick else 400_000_000) // size // 4)
    figures = {}
    for piece in PIECES:
        words = [CONTENDERS[name], "-m", "bench.parsers", "--one", name]
        words += ["--bytes", str(size), "--piece", str(piece), "--bodies", str(bodies)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stderr.strip()[-300:])
        figures[f"ms, {piece // 1024} KiB pieces"] = float(done.stdout)
    return figures


def main() -> None:
    """Flags, turns, tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.parsers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few bodies")
    parser.add_argument("--one", choices=PARSERS, help=argparse.SUPPRESS)
    for flag in ("--bytes", "--piece", "--bodies"):
        parser.add_argument(flag, type=int, default=0, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        print(measure(flags.one, flags.bytes, flags.piece, flags.bodies))
        return
    print("# Parsing a form, CPU ms a body\n")
    columns = [(f"ms, {piece // 1024} KiB pieces", "{:.3f}") for piece in PIECES]
    for label, size in SIZES.items():
        turns = {name: partial(turn, name, size, flags.quick) for name in CONTENDERS}
        results = interleaved(turns, 1 if flags.quick else 5)
        print(f"## {label}\n\n{table(results, columns, 'multipart', columns[0][0])}\n", flush=True)
    print(machine())


if __name__ == "__main__":
    main()
