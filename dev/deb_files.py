"""``python -m dev.deb_files ROOT UNITS``: what a Debian package has beside its environment.

The files of deploy/ are those that ``headgate install`` puts below /usr/local, by the same table; a
package has them below /usr. dev/deb.py calls this with the packages of that environment.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

from uploader.cli import completions
from uploader.cli.install.installation import packaged_plan
from uploader.cli.install.layout import COMMANDS, COMPLETIONS, PACKAGE, UNITS, placed, render
from uploader.cli.install.release import Release

PLACES = {
    "usr/local/share/zsh/site-functions/": "usr/share/zsh/vendor-completions/",
    "usr/local/": "usr/",
}
"""Folders of the administrator's own files, and those of packages."""


def place(target: str, units: str) -> str:
    """Where a package has what ``headgate install`` puts at ``target``; ``units`` is its folder of
    units, which differs between releases of Debian."""
    for before, after in ((UNITS, units), *PLACES.items()):
        if target.startswith(before):
            return after + target.removeprefix(before)
    return target


def texts(units: str) -> Iterator[tuple[str, str]]:
    """Each file with its text, by its place from the root on."""
    sources = Release(Path(PACKAGE), Path(PACKAGE)).files()
    plan = packaged_plan(sources["headgate.toml"])
    for one in placed(plan, list(sources)):
        yield place(one.target, units), render(plan, one.source, sources[one.source])
    for shell, path in COMPLETIONS.items():
        yield place(path, units), completions.script_for(shell)


def lay_out(root: Path, units: str) -> None:
    """Write them below ``root``, and the links to the commands."""
    for name, text in texts(units):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "/man1/" in name:
            data = gzip.compress(text.encode(), 9, mtime=0)
            path.with_name(f"{path.name}.gz").write_bytes(data)
        else:
            path.write_text(text, encoding="utf-8")
    folder = root / "usr/bin"
    folder.mkdir(parents=True)
    for name in COMMANDS:
        (folder / name).symlink_to(f"..{PACKAGE.removeprefix('/usr')}/bin/{name}")


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), sys.argv[2])
