"""What ships is listed whole, and each licence is known and one that may be shipped."""

from __future__ import annotations

import re

from dev import sbom
from tests.support.paths import ROOT

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "LGPL-2.1-only",
    "LGPL-3.0-or-later", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "any-OSI",
}  # fmt: skip
"""Installed beside Headgate by pip, unchanged: those of them that ask for more than a notice
(LGPL, MPL) ask it of changed copies."""


def test_each_licence_is_known_and_may_be_shipped() -> None:
    for package in sbom.shipped():
        words = re.split(r" (?:AND|OR|WITH) ", package.licence.strip("()"))
        assert set(words) <= ALLOWED, f"{package.name}: {package.licence or 'no licence known'}"


def test_what_is_said_by_hand_is_needed() -> None:
    """A package that names its licence itself, or is gone, needs no line of ours."""
    names = {package.name for package in sbom.shipped()}
    assert set(sbom.UNCLEAR) | set(sbom.ELSEWHERE) <= names
    for licence, file in sbom.VENDORED.values():
        assert licence in ALLOWED
        assert (ROOT / file).read_text()


def test_the_document_names_every_package_of_every_lock() -> None:
    packages = sbom.shipped()
    found = sbom.document(packages)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found == sbom.document(packages), "the same locks give the same document"
    refs = [component["bom-ref"] for component in found["components"]]
    assert len(set(refs)) == len(refs)
    for lock in sbom.LOCKS:
        locked = re.findall(
            r"^([a-z0-9][\w.-]*)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE
        )
        assert {f"pkg:pypi/{name}@{version}" for name, version in locked} <= set(refs)
    assert all(package.hashes for package in packages)
    optional = {package.name for package in packages if package.extras}
    assert "celery" in optional and "flask" not in optional
