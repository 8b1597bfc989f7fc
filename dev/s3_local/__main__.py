"""``python -m dev.s3_local``: run the S3 stand-in on a loopback port, for trials and tests."""

from __future__ import annotations

import errno
import ipaddress
import signal
import threading
from pathlib import Path

import click

from dev.s3_local.faults import ScriptError, parse
from dev.s3_local.folder import FolderInUse
from dev.s3_local.local import StrictS3
from headgate.host.exit_codes import Exit
from uploader.cli.main import fail, print_text


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(host).is_loopback and ":" not in host
        number = int(port)
    except ValueError:
        fail(f"{text!r} is not an address and port like 127.0.0.1:9199", Exit.USAGE)
    if not loopback or not 0 <= number <= 65535:
        fail(
            f"{text!r} is not on loopback; the stand-in checks no credentials, so it listens on "
            "127.0.0.1 only",
            Exit.USAGE,
        )
    return host, number


@click.command("s3-local", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--bind",
    default="127.0.0.1:9199",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; loopback only.",
)
@click.option(
    "--dir",
    "folder",
    default="var/s3",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where objects are kept; they are there again at the next start.",
)
@click.option("--bucket", default="images", show_default=True, help="Made if it is not there.")
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A script of faults, one a line: METHOD WHICH ACT [STATUS [CODE] | SECONDSs].",
)
@click.option("--no-sha256", is_flag=True, help="Act as a server that cannot report SHA-256.")
def s3_local(bind: str, folder: Path, bucket: str, faults: Path | None, no_sha256: bool) -> None:
    """Run a stand-in for S3 on loopback until Ctrl-C. It is not S3: it checks no credentials."""
    host, port = _address(bind)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        script = parse(faults.read_text(encoding="utf-8")) if faults else ()
        stand_in = StrictS3(
            script, bucket=bucket, folder=folder, host=host, port=port, echo_sha256=not no_sha256
        )
    except (ScriptError, UnicodeDecodeError) as error:
        fail(f"{faults}: {error}", Exit.USAGE)
    except FolderInUse as error:
        fail(f"{error}; stop that one, or choose another --dir")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"{bind} is taken; stop what listens there, or choose another --bind")
        fail(f"s3-local cannot start: {error}")
    with stand_in:
        print_text(
            f"s3-local: a stand-in on {stand_in.url}, not S3 (no credentials, no power-cut "
            f"safety); bucket {bucket}, {stand_in.loaded} objects in {folder}"
        )
        if stand_in.damaged:
            print_text(
                f"s3-local: {len(stand_in.damaged)} objects are no longer what was stored and are "
                f"left out, for example {stand_in.damaged[0]}",
                err=True,
            )
        stop.wait()


if __name__ == "__main__":
    s3_local(prog_name="python -m dev.s3_local")
