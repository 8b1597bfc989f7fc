"""What ships: the packages of the locks with version, licence and hashes, as CycloneDX 1.6 (JSON).

``python -m dev.sbom`` reads the locks and the metadata of what is installed, and fetches
nothing. The serial number follows from the content, so the same locks give the same document.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.install import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", *(f"requirements-{extra}.lock" for extra in EXTRAS))
"""What an installation installs: without extras, and with each."""
_PACKAGE = re.compile(r"^([a-z0-9][\w.-]*)==([^ ]+)((?:.*\\\n)*.*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
ELSEWHERE = {
    # Not installed in a checkout: another system's or Python's, or of the extra without a wheel.
    "async-timeout": "Apache-2.0",
    "colorama": "BSD-3-Clause",
    "pyasynchat": "PSF-2.0",
    "pyasyncore": "PSF-2.0",
    "pyftpdlib": "MIT",
    "pyopenssl": "Apache-2.0",
    "tzdata": "Apache-2.0",
}
UNCLEAR = {
    # The metadata names none, or no SPDX expression: what the licence files of these say.
    "amqp": "BSD-3-Clause",
    "billiard": "BSD-3-Clause",
    "blinker": "MIT",
    "click-plugins": "BSD-3-Clause",
    "itsdangerous": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "multipart": "MIT",
    "prompt-toolkit": "BSD-3-Clause",
    "python-crontab": "LGPL-3.0-or-later",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "s3transfer": "Apache-2.0",
    "vine": "BSD-3-Clause",
    "wcwidth": "MIT",
}
VENDORED = {"idiomorph": ("0BSD", "app/static/vendor/idiomorph.LICENSE")}
"""What is copied into the packages themselves."""


@dataclass(frozen=True, slots=True)
class Package:
    """One that ships. ``licence``: an SPDX expression, empty where none is known."""

    name: str
    version: str
    licence: str
    hashes: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()  # that install it; none: every installation does


def licence_of(name: str) -> str:
    """What the package's own metadata says (PEP 639), or what was looked up."""
    if name in UNCLEAR or name in ELSEWHERE:
        return UNCLEAR.get(name) or ELSEWHERE[name]
    try:
        said = importlib.metadata.metadata(name).json
    except importlib.metadata.PackageNotFoundError:
        return ""
    return str(said.get("license_expression") or said.get("license") or "")


def shipped(root: Path = ROOT) -> list[Package]:
    """Every package that an installation may have, by name."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    extras: dict[str, list[str]] = {}
    for lock in LOCKS:
        text = (root / lock).read_text(encoding="utf-8")
        for name, version, rest in _PACKAGE.findall(text):
            found[name] = version, tuple(_HASH.findall(rest))
            extras.setdefault(name, []).append(lock[len("requirements-") : -len(".lock")])
    return [
        Package(
            name, version, licence_of(name), hashes,
            () if "" in extras[name] else tuple(extras[name]),
        )
        for name, (version, hashes) in sorted(found.items())
    ]  # fmt: skip


def document(packages: list[Package]) -> dict[str, Any]:
    """CycloneDX 1.6."""
    components = [_component(one) for one in packages]
    for name, (licence, _) in VENDORED.items():
        components.append({
            "type": "library", "bom-ref": name, "name": name,
            "licenses": [{"expression": licence}],
        })  # fmt: skip
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": "headgate", "name": "headgate",
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
    }  # fmt: skip


def _component(one: Package) -> dict[str, Any]:
    purl = f"pkg:pypi/{one.name}@{one.version}"
    # A package has a hash for each wheel; a component's are those of one file, so they are
    # properties here.
    properties = [{"name": "headgate:wheel-sha256", "value": value} for value in one.hashes]
    properties += [{"name": "headgate:extra", "value": extra} for extra in one.extras]
    return {
        "type": "library", "bom-ref": purl, "name": one.name, "version": one.version,
        "purl": purl, "licenses": [{"expression": one.licence}] if one.licence else [],
        "scope": "optional" if one.extras else "required", "properties": properties,
    }  # fmt: skip


if __name__ == "__main__":
    json.dump(document(shipped()), sys.stdout, indent=1)
    print()
