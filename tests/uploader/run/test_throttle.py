"""A run slows down by the share of refusals, and not by each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dev.s3_local.strict import error_reply
from headgate.host.exit_codes import Exit
from tests.support.s3_server import Place
from tests.support.site import unpaced
from uploader.run.throttle import Throttle

PUT_SECONDS = 1 / 160
"""What an image takes at the rate at which 1 % of 503s once left half of the cap unused."""


def used(share: float, attempts: int = 20_000) -> float:
    """The part of the time in which a run sends, if this share of attempts is refused."""
    dice = random.Random(int(share * 1000))
    throttle = Throttle(dice.random)
    sending = pausing = 0.0
    for _ in range(attempts):
        sending += PUT_SECONDS
        if dice.random() < share:
            pausing += throttle.refused() or 0.0
        else:
            throttle.taken()
    return sending / (sending + pausing)


def test_one_in_a_hundred_costs_next_to_nothing() -> None:
    assert used(0.0) == 1.0
    assert used(0.01) >= 0.97 + 0.01  # what is refused was sent in vain as well
    assert used(0.02) >= 0.9


def test_many_refusals_slow_the_run_down() -> None:
    assert used(0.2) < 0.2
    shares = [used(share) for share in (0.01, 0.05, 0.1, 0.2, 0.5)]
    assert shares == sorted(shares, reverse=True)


def test_pauses_grow_in_a_row_and_begin_again_after_an_image_was_taken() -> None:
    throttle = Throttle(lambda: 0.5)
    first = [throttle.refused() for _ in range(9)]
    assert first == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    throttle.taken()
    assert throttle.refused() == 1


def test_the_servers_own_word_counts_where_it_is_longer() -> None:
    throttle = Throttle(lambda: 0.0)
    assert throttle.refused(20) == 20
    assert throttle.refused(86400) == 60
    assert [throttle.refused() for _ in range(4)] == [2, 4, 8, 16]


def test_an_image_that_is_refused_now_and_then_goes_again_in_the_same_run(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unpaced(tmp_path, place, monkeypatch, uplink__parallel="4") as site:
        assert place.strict is not None
        server, application, count = place.strict.server, place.strict.server.application, [0]

        def shedding(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] != "PUT":
                return application(environ, start)
            count[0] += 1
            if count[0] % 60:
                return application(environ, start)
            while environ["wsgi.input"].read(65536):
                pass
            line, headers, body = error_reply(503, "ServiceUnavailable", "no tomes available")
            start(line, headers)
            return [body]

        server.application = shedding
        try:
            images = site.fill(240)
            ended = site.run()
        finally:
            server.application = application
        assert (ended.exit_code, ended.images) == (Exit.OK, 240), ended.message
        assert ended.failures == {"transient": count[0] // 60}
        site.assert_arrived(images)
