"""A file system without room for extended attributes is known by the step that failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headgate.spool.disk import durable
from headgate.spool.errors import AttributesError, DiskError, SpoolUnsuitable
from headgate.spool.spool import prepare
from tests.support.spooling import settings_for


def refuse(monkeypatch: pytest.MonkeyPatch, step: str, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable.os, step, fail)


def test_attributes_that_cannot_be_written_name_a_better_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    refuse(monkeypatch, "setxattr", errno.ENOTSUP)
    with pytest.raises(SpoolUnsuitable, match=r"4 KB of extended attributes .* use ext4"):
        prepare(settings)
    with pytest.raises(AttributesError):
        durable.probe(settings.spool.path)


def test_another_step_that_fails_alike_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "fsync", errno.ENOTSUP)
    with pytest.raises((SpoolUnsuitable, DiskError)) as found:
        prepare(settings_for(tmp_path))
    assert "extended attributes" not in str(found.value)
