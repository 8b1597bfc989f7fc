"""The names of this machine, without asking the network for them."""

from __future__ import annotations

import socket


def own_names() -> frozenset[str]:
    """This machine's names in lower case: its host name, the first label of that, and how mDNS
    calls it (RFC 6762)."""
    name = socket.gethostname().lower().rstrip(".")
    label = name.partition(".")[0]
    return frozenset(filter(None, (name, label, f"{label}.local")))
