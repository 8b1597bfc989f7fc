"""Whether this version knows what is in a spool, asked without changing anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from headgate.spool import sqlite
from headgate.spool.catalog import schema
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.site import site


def too_new(spool: Path) -> str:
    """Why this version may not open the spool: a newer one made its tables. Empty if it may, or
    if there is none."""
    for file, migrations in (
        ("catalog.sqlite3", schema.MIGRATIONS),
        ("site.sqlite3", site.MIGRATIONS),
    ):
        path = spool / "state" / file
        try:
            if not path.is_file():
                continue
        except PermissionError:
            return ""  # its numbers are of another installation; the receiver's start says the rest
        try:
            sqlite.connect(path, migrations, full=False, read_only=True).close()
        except SpoolUnsuitable as error:
            return str(error)
        except sqlite.Error:
            continue  # damaged: headgate verify --repair is another matter
    return ""


if __name__ == "__main__":  # asked by root, who does not work in folders of others
    _folder = Path(sys.argv[1])
    _owner = _folder.stat()
    os.setgroups([])
    os.setgid(_owner.st_gid)
    os.setuid(_owner.st_uid)
    print(too_new(_folder))
