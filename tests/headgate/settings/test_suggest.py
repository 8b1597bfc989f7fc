"""Which names "did you mean" asks about, and which first."""

from __future__ import annotations

import pytest

from headgate.settings.suggest import did_you_mean

FLEET = [f"cam-{number:04}" for number in range(1000)]


@pytest.mark.parametrize(
    ("word", "known", "first"),
    [
        ("cam-007", FLEET, "cam-0007"),  # the same number; cam-0057 has as many letters in common
        ("CAM-7", FLEET, "cam-0007"),
        ("cam-00007", FLEET, "cam-0007"),
        ("cam-0", FLEET, "cam-0000"),
        ("cma-0007", FLEET, "cam-0007"),  # two letters swapped
        ("cam-12", ["cam-21", "cam-1a", "cam-012"], "cam-012"),
        ("gaet", ["gate", "great", "get"], "gate"),
        ("nroth", ["south", "north", "forth"], "north"),
        ("site-07-cam-007", ["site-7-cam-8", "site-7-cam-7"], "site-7-cam-7"),
        ("drian", ["verify", "drain", "brain"], "drain"),
    ],
)
def test_the_nearest_name_is_asked_about_first(word: str, known: list[str], first: str) -> None:
    asked = did_you_mean(word, known)
    assert asked.startswith(f" Did you mean {first}") and asked.endswith("?")
    assert asked.count(" or ") <= 2


def test_nothing_is_asked_if_nothing_is_alike() -> None:
    assert did_you_mean("zebra", FLEET) == did_you_mean("cam-007", []) == ""
