"""``python -m dev.corpus FOLDER``: pictures from other projects' packages, and what decoders say of
them, for ``tests/system/test_corpus.py``.

Nothing of it is committed. The decoders (Pillow with libjpeg, libtiff, libwebp, OpenJPEG and
libavif; libheif; libjxl) read each picture, and what is left of it when it is cut; a batch in a
program of its own, because a broken picture may end a decoder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".gif", ".bmp", ".webp", ".heic",
    ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".dng",
)  # fmt: skip
RAW = (".dng", ".cr2", ".cr3", ".nef", ".raf", ".rw2")
"""What is taken from Debian's packages, whose other pictures are broken on purpose."""
LARGEST = 3_000_000
"""Bytes of a picture; larger ones are left out."""
SOURCES = ("exiv2", "libimage-exiftool-perl")
"""Debian's source packages that have raw files of cameras, with most of their pixels taken out."""
DECODERS = ("imagecodecs==2026.3.6", "pillow-heif==1.8.1")
_BATCH = 16
_SECONDS = 60


def main() -> None:
    """Download, unpack, and ask the decoders."""
    parser = argparse.ArgumentParser(prog="python -m dev.corpus", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    packages, pictures, decoders = (folder / name for name in ("packages", "pictures", "decoders"))
    pictures.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    subprocess.run(
        [*pip, "--require-hashes", "--dest", packages, "-r", HERE / "corpus.txt"], check=True
    )
    uv = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
    ]
    subprocess.run([*uv, "--target", decoders, *DECODERS], check=True)
    _debian_sources(packages)
    for package in sorted(packages.glob("*.tar.*")):
        for name, data in _pictures_in(package):
            mark = hashlib.sha256(data).hexdigest()[:12]
            (pictures / f"{mark}-{name}").write_bytes(data)
    found = sorted(pictures.iterdir())
    with (folder / "decoded.jsonl").open("w", encoding="utf-8") as out:
        for at in range(0, len(found), _BATCH):
            out.writelines(f"{line}\n" for line in _decoded(found[at : at + _BATCH], decoders))
    print(f"{len(found)} pictures are in {pictures}")


def _debian_sources(folder: Path) -> None:
    """Download them, signed as Debian's packages are, of this machine's release; apt's own lists
    stay as they are. Where they are not to be had there are no raw files."""
    release = platform.freedesktop_os_release()
    if shutil.which("apt-get") is None or release.get("ID") != "debian":
        return
    mirror = _mirror(release["VERSION_CODENAME"])
    if not mirror:
        print("apt has no lists here (apt-get update); raw files are left out", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("lists/partial", "cache/archives/partial"):
            (Path(scratch) / name).mkdir(parents=True)
        listed = Path(scratch) / "sources.list"
        listed.write_text(
            "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
            f"{mirror} {release['VERSION_CODENAME']} main\n"
        )
        apt = [
            "apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={listed}",
            "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State::lists={scratch}/lists",
            "-o", f"Dir::Cache={scratch}/cache", "-o", "APT::Sandbox::User=root",
        ]  # fmt: skip
        subprocess.run([*apt, "update"], check=False)
        for name in SOURCES:
            ran = subprocess.run(
                [*apt, "source", "--download-only", name], check=False, cwd=folder.absolute()
            )
            if ran.returncode:
                print(f"{name} cannot be had; its raw files are left out", file=sys.stderr)


def _mirror(codename: str) -> str:
    """Where this machine's apt takes the release from; empty if it knows no such place."""
    form = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    found = (line.split(" ") for line in told.stdout.splitlines())
    return next((uri for release, part, uri in found if (release, part) == (codename, "main")), "")


def _pictures_in(package: Path) -> Iterator[tuple[str, bytes]]:
    wanted = RAW if package.name.startswith(SOURCES) else SUFFIXES
    with tarfile.open(package) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and 0 < member.size <= LARGEST and name.lower().endswith(wanted):
                inside = archive.extractfile(member)
                assert inside is not None
                yield name, inside.read()


def _decoded(batch: Sequence[Path], decoders: Path) -> list[str]:
    """A line of JSON for each picture; none for one that ends the decoder."""
    program = [sys.executable, str(HERE / "corpus_decode.py"), *map(str, batch)]
    path = os.pathsep.join([str(decoders), *sys.path])
    try:
        done = subprocess.run(
            program, capture_output=True, text=True, timeout=_SECONDS, check=False,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired:
        lines = []
    if len(lines) == len(batch):
        return lines
    if len(batch) == 1:
        return []
    return [line for one in batch for line in _decoded([one], decoders)]


if __name__ == "__main__":
    main()
