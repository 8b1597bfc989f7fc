"""``python -m dev.fuzz form -max_total_time=60 FOLDER``: one target, by atheris (libFuzzer).

It runs until the target breaks or the time is over; what follows the target are libFuzzer's own
flags and the folder of its corpus, which grows (a copy of ``tests/fuzz/form``). An input that
breaks it is left in the working folder. atheris is no dependency of ours: CI installs it in a
folder of its own (``.ci/run``).
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("atheris is not installed: pip install --target FOLDER atheris, and PYTHONPATH")
    with atheris.instrument_imports(include=["app", "headgate", "uploader", "multipart"]):
        targets = importlib.import_module("dev.fuzz.targets").TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: python -m dev.fuzz {{{','.join(targets)}}} [FLAG...] [FOLDER]")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
