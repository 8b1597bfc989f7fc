"""The one place that opens connections to the Redis server of a site. Redis is an extra: it is
imported only where ``uplink.shared`` is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from redis import Redis

Client: TypeAlias = "Redis"
"""A connection that others are handed."""

EXTRA = "sharing the uplink needs Redis's client: make install EXTRAS=fleet, or pip install 'headgate[fleet]'"  # noqa: E501


class SharedTrouble(Exception):
    """Redis did not do what was asked, whatever the reason; a sentence."""


def connect(url: str, *, timeout_seconds: float) -> Redis:
    """A client that connects when it is first used, and never waits longer than the timeout for
    one step. It repeats nothing: what was sent and not answered may still be carried out.
    SharedTrouble if the extra is not installed."""
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise SharedTrouble(EXTRA) from None
    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        protocol=2,
    )


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
