"""What the fuzzer starts from, and what it once found, keeps each target's contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.fuzz.targets import TARGETS
from tests.support.paths import ROOT

CORPUS = sorted((ROOT / "tests/fuzz").glob("*/*"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_each_input_keeps_the_contract(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_each_target_has_a_small_corpus() -> None:
    assert {path.parent.name for path in CORPUS} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS) < 100_000
