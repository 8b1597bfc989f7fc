"""``headgate user``: people who may log in to the page, and what each may do there."""

from __future__ import annotations

import sys

import click

from headgate.actions import users
from headgate.host import passwords
from headgate.settings.units import human_duration
from headgate.spool.site.users import Role
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, OneOf, fail, print_json, print_text

_ROLE = OneOf([role.value for role in Role])


@click.group(epilog=ending("headgate user add anna --role operator", "headgate user list"))
def command() -> None:
    """Manage the people who log in to the page."""


@command.command(
    epilog=ending(
        "headgate user add anna --role operator",
        "headgate user add otto --role viewer",
    )
)
@click.argument("name")
@click.option(
    "--role",
    type=_ROLE,
    required=True,
    help="viewer sees; operator also retries, pauses, limits, silences and discards; admin also "
    "enrols and revokes devices.",
)
@click.pass_obj
def add(context: Context, name: str, role: str) -> None:
    """Add a user. The password is asked for, or read from stdin.

    From the first user on, the page needs a log-in on this machine as well.
    """
    with context.spool() as spool:
        if spool.site.users.get(name) is not None:
            fail(f"{name} is a user already; headgate user password sets another password")
        users.add(spool, context.actor, name, Role(role), _password(name))
    context.say(f"{name} may log in, as {role}")


@command.command(epilog=ending("headgate user password anna"))
@click.argument("name")
@click.pass_obj
def password(context: Context, name: str) -> None:
    """Set another password, which is asked for or read from stdin. Ends the user's sessions."""
    with context.spool() as spool:
        if spool.site.users.get(name) is None:
            fail(f"there is no user {name}; headgate user list shows all", missing=True)
        users.set_password(spool, context.actor, name, _password(name))
    context.say(f"{name} has a new password, and is logged in nowhere")


@command.command(epilog=ending("headgate user role anna viewer"))
@click.argument("name")
@click.argument("role", type=_ROLE)
@click.pass_obj
def role(context: Context, name: str, role: str) -> None:
    """Give a user another role. Ends the user's sessions."""
    with context.spool() as spool:
        users.set_role(spool, context.actor, name, Role(role))
    context.say(f"{name} is {role} now, and has to log in again")


@command.command(epilog=ending("headgate user remove anna"))
@click.argument("name")
@click.pass_obj
def remove(context: Context, name: str) -> None:
    """Remove a user. Ends the user's sessions."""
    with context.spool() as spool:
        users.remove(spool, context.actor, name)
        left = spool.site.users.any()
    context.say(f"{name} is no user any more")
    if not left:
        context.say("there is no user now: only this machine may see the page")


@command.command("list", epilog=ending("headgate user list", "headgate user list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List users, their roles, and when each last logged in."""
    with context.spool() as spool:
        found, now = spool.site.users.all(), spool.now()
    if as_json:
        print_json(
            [
                {"name": user.name, "role": user.role, "added_at": user.added_at,
                 "seen_at": user.seen_at}
                for user in found
            ]
        )  # fmt: skip
        return
    for user in found:
        seen = "never logged in"
        if user.seen_at is not None:
            seen = f"logged in {human_duration((now - user.seen_at).total_seconds())} ago"
        print_text(f"{user.name:<20}  {user.role:<8}  {seen}")
    if not found:
        context.say("there is no user: headgate user add NAME --role admin")


def _password(name: str) -> str:
    """Typed twice at a terminal, else the first line of stdin; never an argument, which others
    could read in the list of processes."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline(passwords.LENGTH_MAX + 2)
        return line.removesuffix("\n").removesuffix("\r")
    typed: str = click.prompt(f"Password of {name}", hide_input=True, err=True)
    if click.prompt("Again", hide_input=True, err=True) != typed:
        fail("the two are not the same; nothing was changed")
    return typed
