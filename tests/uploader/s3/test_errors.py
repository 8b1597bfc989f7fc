"""What each answer of S3 means; the codes and statuses are those of the S3 API Reference."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploader.s3.errors import RULES, RequestTarget, classify, rule_for
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import Target, lost, unreached

PLACE = RequestTarget("images", "s3.example.net")


def error(status: int, code: str = "", method: str = "PUT") -> SendError:
    return classify(method, status, code, PLACE)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", ErrorKind.TRANSIENT),
        (503, "", ErrorKind.TRANSIENT),
        (500, "InternalError", ErrorKind.TRANSIENT),
        (502, "", ErrorKind.TRANSIENT),
        (504, "", ErrorKind.TRANSIENT),
        (429, "TooManyRequests", ErrorKind.TRANSIENT),
        (409, "ConditionalRequestConflict", ErrorKind.TRANSIENT),
        (400, "RequestTimeout", ErrorKind.TRANSIENT),
        (400, "IncompleteBody", ErrorKind.TRANSIENT),
        (400, "BadDigest", ErrorKind.TRANSIENT),
        (400, "XAmzContentSHA256Mismatch", ErrorKind.TRANSIENT),
        (412, "PreconditionFailed", ErrorKind.TRANSIENT),
        (400, "", ErrorKind.TRANSIENT),
        (418, "", ErrorKind.TRANSIENT),
        (404, "NoSuchBucket", ErrorKind.FATAL),
        (404, "", ErrorKind.FATAL),
        (403, "AccessDenied", ErrorKind.FATAL),
        (403, "", ErrorKind.FATAL),
        (403, "InvalidAccessKeyId", ErrorKind.FATAL),
        (403, "SignatureDoesNotMatch", ErrorKind.FATAL),
        (403, "RequestTimeTooSkewed", ErrorKind.FATAL),
        (400, "ExpiredToken", ErrorKind.FATAL),
        (301, "PermanentRedirect", ErrorKind.FATAL),
        (307, "TemporaryRedirect", ErrorKind.FATAL),
        (302, "", ErrorKind.FATAL),
        (400, "AuthorizationHeaderMalformed", ErrorKind.FATAL),
        (501, "NotImplemented", ErrorKind.FATAL),
        (400, "EntityTooLarge", ErrorKind.PERMANENT),
        (413, "", ErrorKind.PERMANENT),
        (400, "KeyTooLongError", ErrorKind.PERMANENT),
        (400, "MetadataTooLarge", ErrorKind.PERMANENT),
        (400, "InvalidRequest", ErrorKind.PERMANENT),
        (400, "SomethingNew", ErrorKind.PERMANENT),
    ],
)
def test_a_put_answered_so_is(status: int, code: str, kind: ErrorKind) -> None:
    assert error(status, code).kind is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, ErrorKind.TRANSIENT),
        (400, ErrorKind.TRANSIENT),
        (503, ErrorKind.TRANSIENT),
        (301, ErrorKind.FATAL),
        (500, ErrorKind.TRANSIENT),
    ],
)
def test_a_head_has_no_code_and_is_judged_mildly(status: int, kind: ErrorKind) -> None:
    assert error(status, method="HEAD").kind is kind


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch"])
def test_a_refused_digest_asks_for_the_file_to_be_hashed_again(code: str) -> None:
    assert error(400, code).rehash
    assert not error(400, "InvalidRequest").rehash


@pytest.mark.parametrize(
    ("status", "code", "unknown"),
    [
        (500, "InternalError", True),
        (504, "", True),
        (412, "PreconditionFailed", True),
        (503, "SlowDown", False),
        (403, "AccessDenied", False),
        (400, "BadDigest", False),
    ],
)
def test_an_outcome_is_unknown_only_where_the_object_may_be_there(
    status: int, code: str, unknown: bool
) -> None:
    assert error(status, code).unknown is unknown


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (None, "differs from the server's"),
        (1200.0, "is 20 min behind"),
        (-86400.0 * 3, "is 3 d ahead"),
        (7500.0, "is 2 h 5 min behind"),
    ],
)
def test_a_wrong_clock_is_measured(skew: float | None, words: str) -> None:
    place = RequestTarget("images", "s3.example.net", skew_seconds=skew)
    assert words in classify("PUT", 403, "RequestTimeTooSkewed", place).message


def test_a_wrong_region_is_named() -> None:
    place = RequestTarget("images", "s3.example.net", region="eu-west-1")
    assert "(eu-west-1)" in classify("PUT", 301, "PermanentRedirect", place).message


@given(
    st.sampled_from(["PUT", "HEAD"]),
    st.integers(100, 599),
    st.sampled_from(sorted({code for rule in RULES for code in rule.codes}))
    | st.from_regex(r"[A-Za-z0-9._-]{0,20}", fullmatch=True),
)
def test_every_answer_has_a_sentence_that_ends(method: str, status: int, code: str) -> None:
    found = classify(method, status, code, PLACE)
    assert found.message.endswith(".")
    assert "{" not in found.message
    assert found.code


def test_no_code_stands_in_two_rows() -> None:
    for method in ("PUT", "HEAD"):
        rows = [rule for rule in RULES if method in rule.methods]
        for rule in rows:
            for code in rule.codes:
                assert rule_for(method, 400, code).sentence in {
                    row.sentence for row in rows if code in row.codes
                }
    plain = [code for rule in RULES if "PUT" in rule.methods for code in rule.codes]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize(
    ("trouble", "kind", "code"),
    [
        (ConnectionRefusedError(111, "Connection refused"), ErrorKind.UPLINK_DOWN, "no-connection"),
        (TimeoutError("timed out"), ErrorKind.UPLINK_DOWN, "no-connection"),
        (OSError(101, "Network is unreachable"), ErrorKind.UPLINK_DOWN, "no-connection"),
        (socket.gaierror(-2, "Name or service not known"), ErrorKind.UPLINK_DOWN, "name-lookup"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), ErrorKind.UPLINK_DOWN, "tls"),
        (ssl.SSLCertVerificationError(1, "self-signed"), ErrorKind.FATAL, "certificate"),
    ],
)
def test_what_was_never_reached(trouble: OSError, kind: ErrorKind, code: str) -> None:
    if isinstance(trouble, ssl.SSLCertVerificationError):
        trouble.verify_message = "self-signed certificate"
    found = unreached(trouble, "s3.example.net", 443, Target("s3.example.net", 443))
    assert (found.kind, found.code, found.unknown) == (kind, code, False)
    assert "s3.example.net" in found.message


@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize(
    ("trouble", "kind", "code"),
    [
        (ConnectionResetError(104, "reset"), ErrorKind.TRANSIENT, "connection-lost"),
        (http.client.RemoteDisconnected("closed"), ErrorKind.TRANSIENT, "connection-lost"),
        (TimeoutError("no answer in time"), ErrorKind.UPLINK_DOWN, "timeout"),
        (http.client.BadStatusLine("hello"), ErrorKind.TRANSIENT, "no-http"),
        (http.client.IncompleteRead(b"x"), ErrorKind.TRANSIENT, "no-http"),
    ],
)
def test_a_connection_lost_midway_keeps_what_is_known_of_the_outcome(
    trouble: Exception, kind: ErrorKind, code: str, unknown: bool
) -> None:
    found = lost(trouble, "s3.example.net", unknown=unknown)
    assert (found.kind, found.code, found.unknown) == (kind, code, unknown)
