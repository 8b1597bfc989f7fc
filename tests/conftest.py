"""What holds for every test: chance that can be repeated, a bound in time, and what is left out."""

from __future__ import annotations

import gc
import os
import random
import secrets
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import structlog

SEED = "HEADGATE_TEST_SEED"
"""Set to the number that a failure shows, the tests make the same random choices again."""
SLOW_SECONDS = 3600
"""The bound of a test that is marked slow, and of a campaign; pyproject.toml has the others'."""

_seed = pytest.StashKey[int]()
_deselected = pytest.StashKey[int]()

# A machine that is slow is no fault, so neither is an example that takes long.
hypothesis.settings.register_profile(
    "headgate",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("headgate")


def pytest_configure(config: pytest.Config) -> None:
    """One seed for the whole run, the same in each worker of xdist."""
    given = getattr(config, "workerinput", {}).get("seed") or os.environ.get("HEADGATE_TEST_SEED")
    config.stash[_seed] = int(given) if given else secrets.randbelow(10**9) + 1
    config.stash[_deselected] = 0
    gc.disable()


def pytest_collection_finish() -> None:
    """What was collected stays to the end: looking through it again and again for garbage took a
    third of the collection, and is left out in the tests as well."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["seed"] = node.config.stash[_seed]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that are slow have more time, and all of them where a campaign was asked for."""
    campaign = any(name.startswith("HEADGATE_TEST_") and name != SEED for name in os.environ)
    for item in items:
        slow = campaign or item.get_closest_marker("slow")
        if slow and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test begins with random numbers of its own and with logging not set up, whichever ran
    before it."""
    structlog.reset_defaults()
    random.seed(f"{item.config.stash[_seed]} {item.nodeid}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment, misc]
    if report.failed:
        seed = item.config.stash[_seed]
        report.sections.append(("seed", f"{SEED}={seed} makes the same random choices again"))
    return report  # type: ignore[return-value]


def pytest_deselected(items: list[pytest.Item]) -> None:
    items[0].config.stash[_deselected] += len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist tells the process that reports: each deselects the same ones."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deselected"] = session.config.stash[_deselected]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {}).get("deselected", 0)
    node.config.stash[_deselected] = max(told, node.config.stash[_deselected])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line for the tests that are left out: how many, why, and what runs them."""
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(
            f"{skipped} left out, because this machine lacks what they need (-rs says what): "
            ".ci/run, as root on a Debian machine, installs that and runs them"
        )
    if deselected := config.stash[_deselected]:
        terminalreporter.write_line(
            f"{deselected} left out by -m or -k; "
            "make test-slow runs those that take minutes or need root"
        )
