"""What the doctor says of who may see the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.spooling import open_spool, settings_for
from uploader.cli.doctor import collect
from uploader.cli.doctor.findings import Severity
from uploader.cli.doctor.people import People, judge

OK, WARNING = Severity.OK, Severity.WARNING
HEADER = {"auth__proxy_user_header": "Remote-User"}


@pytest.mark.parametrize(
    ("settings", "changes", "level", "said"),
    [
        ({}, {}, OK, "only this machine"),
        ({}, {"users": 2}, OK, "2 users may log in"),
        ({}, {"devices": 3}, WARNING, "does not open the page"),
        ({}, {"on_network": True}, WARNING, "no one can see it"),
        ({}, {"on_network": True, "users": 1}, OK, "1 user may log in"),
        (HEADER, {}, WARNING, "counts from no address"),
        ({**HEADER, "auth__proxy_addresses": "127.0.0.1"}, {"devices": 3}, OK, "names users"),
        ({**HEADER, "auth__proxy_addresses": "0.0.0.0/0"}, {"users": 1}, WARNING, "0.0.0.0/0"),
        ({**HEADER, "auth__proxy_addresses": "10.0.0.1, ::/0"}, {}, WARNING, "::/0"),
        ({**HEADER, "auth__proxy_addresses": "128.0.0.0/1"}, {}, WARNING, "anyone at all"),
    ],
)
def test_the_page_is_for_someone_and_not_for_anyone(
    tmp_path: Path, settings: dict[str, str], changes: dict[str, int], level: Severity, said: str
) -> None:
    auth = settings_for(tmp_path, **settings).auth
    seen = replace(People(auth, 0, 1, 0, on_network=False), **changes)  # type: ignore[arg-type]
    (found,) = judge(seen)
    assert (found.check, found.level) == ("people", level) and said in found.sentence
    assert bool(found.mend) == (level is WARNING)


def test_it_is_asked_of_the_spool(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    try:
        spool.site.devices.add(["cam-1"], spool.now())
        spool.site.users.add_scrape_token("prometheus", spool.now())
        seen = collect.people(spool)
        assert (seen.users, seen.devices, seen.scrape_tokens, seen.on_network) == (0, 1, 1, False)
    finally:
        spool.close()
