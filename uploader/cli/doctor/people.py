"""Who may see the page and act on it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from headgate.settings.table import AuthSettings
from uploader.cli.doctor.findings import Finding, ok, warning

_ADD = "headgate user add NAME --role admin"


@dataclass(frozen=True, slots=True)
class People:
    """Who has a key to the page, and who might need one."""

    auth: AuthSettings
    users: int
    scrape_tokens: int
    devices: int  # with a valid token
    on_network: bool  # the receiver listens to more than this machine


def judge(seen: People) -> Iterator[Finding]:
    """A page that no one can open says nothing; one that anyone can open says too much."""
    auth = seen.auth
    if auth.proxy_user_header and not auth.proxy_addresses:
        yield warning(
            "people",
            f"auth.proxy_user_header ({auth.proxy_user_header}) counts from no address, because "
            "auth.proxy_addresses is empty",
            'auth.proxy_addresses = ["127.0.0.1"], or where the proxy is',
        )
    elif auth.proxy_user_header and (wide := _everything(auth.proxy_addresses)):
        yield warning(
            "people",
            f"anyone at all may write another user's name into {auth.proxy_user_header}: "
            f"auth.proxy_addresses has {wide}",
            "name the addresses of the proxy alone",
        )
    elif auth.proxy_user_header:
        yield ok("people", f"{auth.proxy_user_header} from {', '.join(auth.proxy_addresses)} "
                 "names users")  # fmt: skip
    elif seen.users:
        yield ok("people", f"{seen.users} {'user' if seen.users == 1 else 'users'} may log in")
    elif seen.devices or seen.on_network:
        yield warning(
            "people",
            "there is no user, and a device's token does not open the page, so no one can see it",
            _ADD,
        )
    else:
        yield ok("people", "there is no user: only this machine may see the page")
    if seen.devices and not seen.scrape_tokens:
        yield ok("metrics", "no program has a token for /metrics (headgate token add)")


def _everything(networks: tuple[str, ...]) -> str:
    """A network that holds half of all addresses or more."""
    for network in networks:
        if ipaddress.ip_network(network).prefixlen <= 1:
            return network
    return ""
