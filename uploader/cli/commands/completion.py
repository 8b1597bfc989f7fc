"""``headgate completion``: the script that lets a shell complete commands, flags and names."""

from __future__ import annotations

import click

from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import print_text


@click.command(
    epilog=ending(
        'eval "$(headgate completion bash)"  # for this shell; add it to ~/.bashrc to keep it',
        'eval "$(headgate completion zsh)"  # ... in ~/.zshrc, after compinit',
        "headgate completion fish > ~/.config/fish/completions/headgate.fish",
    )
)
@click.argument("shell", type=click.Choice(completions.SHELLS))
def command(shell: str) -> None:
    """Print a shell completion script.

    It completes commands, flags, settings, devices, alerts, and images that are set aside.
    """
    print_text(completions.script_for(shell))
