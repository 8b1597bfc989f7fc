"""The one place that opens connections to the Redis server of a site. Redis is an extra: it is
imported only where ``uplink.shared`` is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from redis import Redis

Client: TypeAlias = "Redis"
"""A connection that others are handed."""

EXTRA = "sharing the uplink needs Redis's client: make install EXTRAS=fleet, or pip install 'headgate[fleet]'"  # noqa: E501


_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where the primary is asked for, and how to log in there."""

    hosts: list[tuple[str, int]]
    name: str  # of the primary, as the Sentinels know it
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_sentinels(url: str) -> Sentinels | None:
    """``sentinel://...``, read; None for the URL of a server."""
    if not url.startswith("sentinel://"):
        return None
    login, _, rest = url.removeprefix("sentinel://").rpartition("@")
    where, _, what = rest.partition("/")
    name, _, database = what.partition("/")
    user, _, password = (unquote(part) for part in login.partition(":"))
    hosts = []
    for one in where.split(","):
        host, port = urlsplit(f"//{one}").hostname, urlsplit(f"//{one}").port
        hosts.append((host or "", port or _SENTINEL_PORT))
    return Sentinels(hosts, name, int(database or 0), user or None, password or None)


class SharedTrouble(Exception):
    """Redis did not do what was asked, whatever the reason; a sentence."""


def connect(url: str, *, timeout_seconds: float) -> Redis:
    """A client that connects when it is first used, and never waits longer than the timeout for
    one step. It repeats nothing: what was sent and not answered may still be carried out.
    ``url`` may name Sentinels, ``sentinel://[user:password@]host:port,host:port/NAME[/database]``:
    each new connection asks them for the primary of that name; user and password are the
    primary's. SharedTrouble if the extra is not installed."""
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
        from redis.sentinel import Sentinel
    except ImportError:
        raise SharedTrouble(EXTRA) from None
    patience: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if (there := parse_sentinels(url)) is None:
        return Redis.from_url(url, decode_responses=True, **patience)
    # redis-py's annotations leave these two out.
    sentinels = Sentinel(there.hosts, sentinel_kwargs=patience)  # type: ignore[no-untyped-call]
    primary: Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
        there.name,
        db=there.database,
        username=there.user,
        password=there.password,
        decode_responses=True,
        **patience,
    )
    return primary


def disconnect(client: Redis) -> None:
    """Close a client and all of its connections; it connects again when it is next used."""
    client.close()
    client.connection_pool.disconnect()


@contextmanager
def troubles(client: Redis) -> Iterator[None]:
    """Any failure of Redis as SharedTrouble. The connection is closed then: an answer that comes
    late is the answer to nothing."""
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError, ValueError) as error:
        disconnect(client)
        words = " ".join(str(error).split()) or type(error).__name__
        raise SharedTrouble(f"Redis: {words[:200]}") from error
