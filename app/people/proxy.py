"""Single sign-on: a proxy that logs people in names them in a header, and is believed if it is one
of ``auth.proxy_addresses``."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable

from werkzeug.datastructures import Headers

from app.admission.auth import Person
from headgate.host.logs import get as get_log
from headgate.settings.table import AuthSettings
from headgate.spool.site.users import NAME, Role

_LOG_SECONDS = 60


class Proxies:
    """The trusted proxies that the settings name. Thread-safe."""

    def __init__(
        self, settings: AuthSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._networks = tuple(map(ipaddress.ip_network, settings.proxy_addresses))
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ignored, self._logged_at = 0, -float(_LOG_SECONDS)

    def person(self, peer: str, headers: Headers) -> Person | None:
        """Whom the proxy names; None if it names no one, or is not to be believed."""
        said = headers.get(self._settings.proxy_user_header or "-", "").strip()
        if not said:
            return None
        if not self._is_trusted(peer):
            self._ignore(peer, "auth.proxy_addresses does not name this address")
            return None
        if not NAME.fullmatch(said):
            self._ignore(peer, "this is not the name of one user")
            return None
        role = self._role(headers)
        if role is None:
            self._ignore(peer, "the user has no role here")
            return None
        return Person(said, role)

    def client(self, peer: str, headers: Headers) -> str:
        """The address that a request comes from: the last one that a trusted proxy added to
        X-Forwarded-For, else the connection's."""
        last = headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        if not last or not self._is_trusted(peer):
            return peer
        try:
            return str(ipaddress.ip_address(last))
        except ValueError:
            return peer

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def _role(self, headers: Headers) -> Role | None:
        said = headers.get(self._settings.proxy_role_header or "-", "")
        words = {word.strip().lower() for word in said.replace(";", ",").split(",")}
        found = [role for role in Role if role in words]
        if found:
            return found[-1]
        return None if self._settings.proxy_role == "none" else Role(self._settings.proxy_role)

    def _ignore(self, peer: str, why: str) -> None:
        """Log it once a minute at most, with how many there were."""
        with self._lock:
            self._ignored += 1
            now = self._monotonic()
            if now - self._logged_at < _LOG_SECONDS:
                return
            count, self._ignored, self._logged_at = self._ignored, 0, now
        get_log().warning("proxy_user.ignored", peer=peer, reason=why, requests=count)
