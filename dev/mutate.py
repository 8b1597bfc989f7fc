"""``make mutate MODULE=...``: change a module in every small way, and see what its tests miss.

cosmic-ray (https://cosmic-ray.readthedocs.io) makes the changes, in a copy of the checkout, from an
environment of its own, so that none of its dependencies is ours: other comparisons, operators and
numbers, conditions turned round, statements left out. A change that no test notices is printed with
its lines: it is a test that is missing, or does the same as before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev.mutants import copy_of

ROOT = Path(__file__).resolve().parent.parent
TOOL = "cosmic-ray==8.7.0"
PLACE = ROOT / ".venv-mutate"
TEST_SECONDS = 120
"""Then a change counts as noticed: it made a test hang."""
ONE_EACH = "Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_FloorDiv|LShift_RShift|RShift_LShift"
"""Of a calculation one change is enough; what finds one finds the others. ``|`` stands mostly in
annotations."""
CONFIG = """
[cosmic-ray]
module-path = "{module}"
timeout = {seconds}.0
excluded-modules = []
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = ['core/ReplaceBinaryOperator_(?!({one_each})$).*']
"""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.mutate", description=__doc__)
    parser.add_argument("module", help="a file: headgate/spool/budget/slots.py")
    parser.add_argument("tests", nargs="*", help="its tests; the file of its name by default")
    given = parser.parse_args(words)
    tests = given.tests or [tests_of(given.module)]
    if missing := [name for name in (given.module, *tests) if not (ROOT / name).exists()]:
        parser.error(f"{missing[0]} is not there")
    return mutate(_tool(), given.module, tests)


def tests_of(module: str) -> str:
    """The test file that a module has by its name."""
    path = Path("tests", module)
    return str(path.with_name(f"test_{path.name}"))


def _tool() -> Path:
    """The environment of the tool; made the first time."""
    made = PLACE / ".made"
    if not made.exists() or made.read_text() != TOOL:
        uv = ROOT / ".venv" / "bin" / "uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", PLACE], check=True)
        python = PLACE / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, TOOL], check=True)
        made.write_text(TOOL)
    return PLACE / "bin"


def mutate(tool: Path, module: str, tests: Sequence[str]) -> int:
    """Make every change, and print those that no test noticed; 1 if there are any."""
    with tempfile.TemporaryDirectory(prefix="headgate-mutate-") as scratch:
        copy, session = copy_of(ROOT, Path(scratch, "copy")), Path(scratch, "session.sqlite")
        command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider {' '.join(tests)}"
        environment = {**os.environ, "PYTHONPATH": str(copy), "HEADGATE_TEST_SEED": "20261201"}

        def run(*words: str | Path) -> str:
            done = subprocess.run(
                words, cwd=copy, env=environment, check=False, capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(f"mutate: {words[0]} failed:\n{done.stdout}{done.stderr}")
            return done.stdout

        run(*command.split())  # they pass without a change, and all modules are compiled now
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # else a change of one second may be missed
        for compiled in (copy / module).parent.glob(f"__pycache__/{Path(module).stem}.*"):
            compiled.unlink()
        config = Path(scratch, "config.toml")
        config.write_text(
            CONFIG.format(module=module, seconds=TEST_SECONDS, command=command, one_each=ONE_EACH)
        )
        run(tool / "cosmic-ray", "init", config, session)
        run(tool / "cr-filter-operators", session, config)
        run(tool / "cosmic-ray", "exec", config, session)
        made, missed = read(run(tool / "cosmic-ray", "dump", session))
    for one in missed:
        print(one)
    print(f"{module}: {made} changes, {made - len(missed)} noticed, {len(missed)} not ({TOOL})")
    return 1 if missed else 0


def read(dump: str) -> tuple[int, list[str]]:
    """How many changes were made, and those that no test noticed, as diffs."""
    made, missed = 0, []
    for line in dump.splitlines():
        item, result = json.loads(line)
        if result is None or result["worker_outcome"] == "skipped":
            continue
        (change,) = item["mutations"]
        diff = re.sub(r"(?m)^(---|\+\+\+|@@).*\n", "", result["diff"] or "")
        lines = [text for text in diff.splitlines() if text.startswith(("-", "+"))]
        if any(text.startswith("-@dataclass(") for text in lines):
            continue  # frozen and slots: mypy's, no test's
        made += 1
        if result["test_outcome"] == "survived":
            name = change["operator_name"].removeprefix("core/")
            where = f"{change['module_path']}:{change['start_pos'][0]} {name}"
            missed.append("\n".join((where, *lines)))
    return made, missed


if __name__ == "__main__":
    sys.exit(main())
