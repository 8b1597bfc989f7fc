"""What remembers the few things that people and gateways set for the uplink."""

from __future__ import annotations

from typing import Any, Protocol


class Memory(Protocol):
    """Small values by name (``headgate.spool.site.site``); None: there is none."""

    def get(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...
