"""What the page, the metrics and ``headgate status`` tell, compared with what a witness counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from headgate.spool.spool import Spool
from tests.support.spooling import images_below
from uploader.cli.main import headgate

STATES = {
    "waiting": "true,waiting", "sending": "true,sending", "set_aside": "true,set_aside",
    "held": "true,held",
    "uploaded_local": "true,uploaded", "uploaded_pruned": "false,uploaded",
}  # fmt: skip
Get = Callable[[str], str]
"""The body that a receiver answers with."""


def samples(text: str) -> dict[str, float]:
    """Each series by its metric's name and its labels' values."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = ",".join(sample.labels[label] for label in sorted(sample.labels))
            found[f"{sample.name} {key}".strip()] = sample.value
    return found


def status(config: Path) -> Any:
    """What ``headgate status --json`` prints."""
    ran = CliRunner().invoke(headgate, ["--config", str(config), "status", "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def assert_agree(
    config: Path, get: Get, sizes: Mapping[str, int], states: Mapping[str, Iterable[str]]
) -> tuple[Any, Any, dict[str, float]]:
    """All three say of each state, and of what was received, what the witness says: how many
    images, and how many bytes. ``sizes`` by id; ``states`` as facts have them. What they said is
    returned."""
    page, command, found = json.loads(get("/status.json")), status(config), samples(get("/metrics"))
    for state, images in states.items():
        expected = {"images": len(set(images)), "bytes": sum(sizes[image] for image in set(images))}
        assert page[state] == expected, state
        assert command[state] == expected, state
        if state in STATES:
            assert found[f"headgate_images {STATES[state]}"] == expected["images"], state
            assert found[f"headgate_image_bytes {STATES[state]}"] == expected["bytes"], state
        else:
            assert found[f"headgate_{state}_images_total"] == expected["images"], state
            assert found[f"headgate_{state}_bytes_total"] == expected["bytes"], state
    assert page["unaccounted"] == command["unaccounted"] == 0
    assert found["headgate_unaccounted_images"] == 0
    assert page["run_totals"] == command["run_totals"]
    return page, command, found


def assert_true(spool: Spool, config: Path, images: Mapping[str, bytes]) -> None:
    """After a campaign, while no run is at work: the files are the witness."""
    client = create_app(spool).test_client()
    lie: dict[str, list[str]] = {"new": [], "done": [], "aside": [], "": []}
    found = images_below(spool.path)
    for image in images:
        (folder,) = found.get(image) or [""]  # gone: uploaded and pruned
        lie[folder].append(image)
    sizes = {image: len(data) for image, data in images.items()}
    assert_agree(config, lambda path: client.get(path).text, sizes, {
        "received": images, "waiting": lie["new"], "sending": [], "set_aside": lie["aside"],
        "uploaded_local": lie["done"], "uploaded_pruned": lie[""],
    })  # fmt: skip
