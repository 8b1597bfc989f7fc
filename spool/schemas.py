"""Whether this version knows what is in a spool, asked without changing anything."""

from __future__ import annotations

from pathlib import Path

from spool import catalog_schema, site, sqlite
from spool.errors import SpoolUnfit


def too_new(spool: Path) -> str:
    """Why this version may not open the spool: a newer one made its tables. Empty if it may, or
    if there is none."""
    for file, migrations in (
        ("catalog.sqlite3", catalog_schema.MIGRATIONS),
        ("site.sqlite3", site.MIGRATIONS),
    ):
        path = spool / "state" / file
        if not path.is_file():
            continue
        try:
            sqlite.connect(path, migrations, full=False, read_only=True).close()
        except SpoolUnfit as error:
            return str(error)
        except sqlite.Error:
            continue  # damaged: headgate verify --repair is another matter
    return ""
