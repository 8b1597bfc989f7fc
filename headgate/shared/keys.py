"""The names of Redis's keys. Pure."""

from __future__ import annotations


def key(site: str, *parts: str) -> str:
    """One site's key. The braces put all keys of a site into one slot of a Redis Cluster."""
    return ":".join(["headgate", f"{{{site}}}", *parts])
