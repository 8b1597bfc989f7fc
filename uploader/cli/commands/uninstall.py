"""``headgate uninstall``: remove everything except the spool."""

from uploader.cli.commands.install import uninstall

command = uninstall
