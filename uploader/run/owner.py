"""Becoming the spool's owner: a run started by root must not leave files that only root can use."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def become_owner(spool: Path) -> str:
    """As root, take on the user and groups of who owns ``spool``; their name, or "".

    HOME changes too, so that credentials are looked for where cron's runs find them.
    """
    if os.geteuid() != 0 or not spool.exists():
        return ""
    owner = spool.stat()
    if owner.st_uid == 0:
        return ""
    account = pwd.getpwuid(owner.st_uid)
    os.initgroups(account.pw_name, owner.st_gid)
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    return account.pw_name
