"""``headgate completion``: the script that lets a shell complete commands, flags and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from uploader.cli.help_epilog import ending
from uploader.cli.main import headgate, print_text

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=ending(
        'eval "$(headgate completion bash)"  # for this shell; put it into ~/.bashrc to keep it',
        'eval "$(headgate completion zsh)"  # ... into ~/.zshrc, after compinit',
        "headgate completion fish > ~/.config/fish/completions/headgate.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print what lets a shell complete commands and names.

    Those are commands, flags, settings, devices, alerts, and images that are set aside.
    """
    print_text(script_for(shell))


def script_for(shell: str) -> str:
    """The script for one of SHELLS."""
    made = get_completion_class(shell)
    assert made is not None
    script = made(headgate, {}, "headgate", "_HEADGATE_COMPLETE").source()
    if shell == "bash":  # --set uplink.share= wants its value next, and no blank
        script = script.replace(
            "    return 0\n", "    [[ $COMPREPLY == *= ]] && compopt -o nospace\n    return 0\n"
        )
    return script
