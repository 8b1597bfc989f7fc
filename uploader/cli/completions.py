"""Completion in shells: the scripts, and what to offer for settings, devices, alerts and images.

Offers are made while a person types: nothing is printed, and where something fails, nothing is
offered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem, get_completion_class

from headgate.settings.load import load, split_flags
from headgate.settings.settings import SETTINGS
from headgate.spool.image.image import State
from headgate.spool.spool import Spool

Offer = list[CompletionItem[str]]
_MOST = 1000
SHELLS = ("bash", "zsh", "fish")


def settings(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Offer:
    """``section.key=`` for --set."""
    return [
        CompletionItem(f"{setting.name}=", help=setting.help)
        for setting in SETTINGS
        if setting.name.startswith(incomplete)
    ]


def alerts(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Offer:
    """The code of an alert, or all."""
    from headgate.monitor.rules import RULES

    found = [CompletionItem(rule.code, help=rule.title) for rule in RULES]
    found.append(CompletionItem("all", help="all alerts"))
    return [item for item in found if str(item.value).startswith(incomplete)]


def devices(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Offer:
    """Devices that are enrolled and have a valid token."""

    def names(spool: Spool) -> Iterator[str]:
        for device in spool.site.devices.all(spool.now()):
            if device.revoked_at is None:
                yield device.name

    return _of_spool(ctx, names, incomplete)


def senders(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Offer:
    """Devices that have sent an image, enrolled or not."""

    def names(spool: Spool) -> Iterator[str]:
        for arrivals in spool.catalog.arrivals():
            yield arrivals.device

    return _of_spool(ctx, names, incomplete)


def held(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Offer:
    """Images and devices that are held."""

    def names(spool: Spool) -> Iterator[str]:
        for hold in spool.site.holds.all():
            yield hold.subject.name

    return _of_spool(ctx, names, incomplete)


def images_aside(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Offer:
    """Images that are set aside."""

    def ids(spool: Spool) -> Iterator[str]:
        for item in spool.catalog.in_state(State.SET_ASIDE, _MOST):
            yield item.id

    return _of_spool(ctx, ids, incomplete)


def _of_spool(
    ctx: click.Context, names: Callable[[Spool], Iterator[str]], incomplete: str
) -> Offer:
    from headgate.spool.owner import opened

    said = ctx.find_root().params
    # SystemExit: root that cannot become the spool's owner.
    with contextlib.suppress(Exception, SystemExit):
        read = load(said.get("config"), split_flags(said.get("flags") or ()))
        with opened(read) as spool:
            return [CompletionItem(name) for name in names(spool) if name.startswith(incomplete)]
    return []


def script_for(shell: str) -> str:
    """The script for one of SHELLS."""
    made = get_completion_class(shell)
    assert made is not None
    script = made(click.Command("headgate"), {}, "headgate", "_HEADGATE_COMPLETE").source()
    if shell == "bash":  # --set uplink.share= wants its value next, and no blank
        script = script.replace(
            "    return 0\n", "    [[ $COMPREPLY == *= ]] && compopt -o nospace\n    return 0\n"
        )
    return script
