"""``make drain``: upload until nothing waits; into the stand-in of ``make run`` where that runs."""

from __future__ import annotations

import os

from dev.children import BIN
from dev.run import OBJECTS
from dev.stand_in import environment, leading_to, listening
from headgate.settings.load import load
from headgate.settings.settings import SettingsError


def main() -> None:
    """Become the real command, which says what is wrong with the settings, if anything is."""
    variables = dict(os.environ)
    try:
        bucket = load().goes_to
    except SettingsError:
        bucket = "unknown"
    if not bucket and (endpoint := listening(OBJECTS)):
        variables = {**environment("AWS_"), **leading_to(endpoint)}
        # Flushed: what follows replaces this program.
        print("headgate: no bucket is set; this goes into the stand-in of make run", flush=True)
    command = str(BIN / "headgate")
    os.execve(command, [command, "drain", "--until-empty"], variables)


if __name__ == "__main__":
    main()
