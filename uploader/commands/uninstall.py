"""``headgate uninstall``: take everything out but the spool."""

from uploader.commands.install import uninstall

command = uninstall
