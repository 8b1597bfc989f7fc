"""``headgate uninstall``: take everything out but the spool."""

from uploader.cli.commands.install import uninstall

command = uninstall
