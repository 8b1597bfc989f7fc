"""How every command opens the spool: as the user it belongs to, never as root.

A less trusted user, the receiver's, may write to the spool's folders, and could leave a link there
that leads to a file of root's. So root gives up its rights before it touches anything below
``spool.path``, also to read it.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headgate.settings.settings import Settings
from headgate.spool.disk.layout import FOLDERS
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.spool import Spool


@contextmanager
def opened(settings: Settings, *, probe: bool = False) -> Iterator[Spool]:
    """The spool that is there, open, by a process that has become its owner.

    SpoolUnsuitable, DiskError or LockHeld where it cannot be used; the sentence says what to do.
    """
    become_owner(settings.spool.path)
    with closing(Spool.open(settings, create=False, probe=probe)) as spool:
        yield spool


def become_owner(spool: Path) -> str:
    """As root, take on the user and group of who owns ``spool``; their name, or "".

    HOME changes too, so that credentials are looked for where cron's runs find them.
    SpoolUnsuitable where it is root's own, and others may write in it.
    """
    if os.geteuid() != 0 or not spool.is_dir():
        return ""
    owner = spool.stat()
    if owner.st_uid == 0:
        _refuse_others(spool)
        return ""
    try:
        account = pwd.getpwuid(owner.st_uid)
    except KeyError:  # a number without a name, as in containers
        name = str(owner.st_uid)
        os.setgroups([owner.st_gid])
        os.environ.update(HOME="/nonexistent", USER=name, LOGNAME=name)
    else:
        name = account.pw_name
        os.initgroups(name, owner.st_gid)
        os.environ.update(HOME=account.pw_dir, USER=name, LOGNAME=name)
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    return name


def _refuse_others(spool: Path) -> None:
    """SpoolUnsuitable if another user than root may put names into a folder of the spool."""
    for path in (spool, *(spool / folder for folder in FOLDERS)):
        try:
            seen = path.lstat()
        except FileNotFoundError:
            continue
        group = seen.st_mode & stat.S_IWGRP and seen.st_gid != 0
        if (
            seen.st_uid != 0
            or group
            or seen.st_mode & stat.S_IWOTH
            or not stat.S_ISDIR(seen.st_mode)
        ):
            raise SpoolUnsuitable(
                f"{spool} belongs to root and others may write to {path}: root does not work there "
                f"(a link could lead it to any file); give the spool to the user that sends, with "
                f"chown -R USER: {spool}"
            )
