"""``headgate token``: tokens of programs that scrape /metrics."""

from __future__ import annotations

import click

from headgate.actions import users
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text


@click.group(epilog=ending("headgate token add prometheus", "headgate token list"))
def command() -> None:
    """Manage the tokens of programs that scrape /metrics."""


@command.command(epilog=ending("headgate token add prometheus > headgate.token"))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def add(context: Context, name: str, as_json: bool) -> None:
    """Make a token for a program that scrapes /metrics.

    It is shown once, and opens nothing else. A program sends it as Bearer, or as the password of
    Basic. From the first one on, /metrics needs a token or a log-in on this machine as well.
    """
    with context.spool() as spool:
        token = users.add_scrape_token(spool, context.actor, name)
    if as_json:
        print_json({"name": name, "token": token})
    else:
        print_text(token)


@command.command(epilog=ending("headgate token remove prometheus"))
@click.argument("name")
@click.pass_obj
def remove(context: Context, name: str) -> None:
    """Remove a token: it opens nothing from then on."""
    with context.spool() as spool:
        users.remove_scrape_token(spool, context.actor, name)
    context.say(f"the token {name} is removed")


@command.command("list", epilog=ending("headgate token list", "headgate token list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List the tokens for /metrics by name."""
    with context.spool() as spool:
        found = spool.site.users.scrape_tokens()
    if as_json:
        print_json([{"name": name, "added_at": at} for name, at in found])
        return
    for name, at in found:
        print_text(f"{name:<20}  since {at:%Y-%m-%d %H:%M} UTC")
    if not found:
        context.say("there is no token: headgate token add prometheus")
