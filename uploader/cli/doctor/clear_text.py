"""What goes to other machines unencrypted, by the URLs in the settings. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from headgate.settings.settings import Settings
from uploader.cli.doctor.findings import Finding, ok, warning

_SENT: Mapping[str, str] = {
    "destination.url": "images, their names and the token are sent",
    "s3.endpoint_url": "images, their names and the signatures of requests are sent",
    "queue.broker": "messages and the broker's password are sent",
    "uplink.shared": "what gateways lend each other and Redis's password are sent",
    "alerts.slack_webhook": "alerts and the webhook's secret URL are sent",
    "alerts.heartbeat_url": "the heartbeat and its secret URL are sent",
    "jobs.oidc_keys": "the keys that verify identity tokens are fetched",
}
_UNUSED = {"http": "s3.endpoint_url", "s3": "destination.url"}
_ENCRYPTED: Mapping[str, str] = {"http": "https", "redis": "rediss", "sentinel": "rediss"}


def judge(settings: Settings, endpoint: str = "") -> Iterator[Finding]:
    """``endpoint``: where the bucket was found, which the environment may name as well. No
    sentence shows more of a URL than its host."""
    clear = []
    for name, sent in _SENT.items():
        if name == _UNUSED[settings.destination.kind]:
            continue
        url = str(settings.value(name) or "") or (endpoint if name == "s3.endpoint_url" else "")
        try:
            parts = urlsplit(url)
        except ValueError:
            continue  # no server can be reached there, which others say
        if parts.scheme in _ENCRYPTED and not _is_this_machine(parts.hostname or ""):
            clear.append(
                warning(
                    "clear-text",
                    f"{sent} over the network in clear text ({name}: {parts.scheme}://, "
                    f"{parts.hostname}): anyone on the way can read them",
                    f"{_ENCRYPTED[parts.scheme]}:// in {name}",
                )
            )
    yield from clear
    if not clear:
        yield ok("clear-text", "traffic to other servers is encrypted")


def _is_this_machine(host: str) -> bool:
    """Whether the name or the address is loopback (RFC 6761, 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
