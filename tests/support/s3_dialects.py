"""S3 servers as people reported them, scripted on top of the stand-in.

Each has the report that it is taken from. What a report leaves open is as Amazon does it. None of
this was seen by us on the service itself; docs/SERVERS.md says so too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dev.s3_local.request_body import Reset
from dev.s3_local.strict import error_reply
from headgate.spool.site.confirmation import ProofKind
from tests.support.s3_server import Place
from uploader.s3.dialect import IfNoneMatch

SHA256 = "x-amz-checksum-sha256"
MODE = "x-amz-checksum-mode"
IF_NONE_MATCH = "if-none-match"


@dataclass(frozen=True)
class Behaviour:
    """``refused``: headers that fail a PUT or HEAD, with status, code and message; with status 0
    the connection is reset. ``ignored``:
    headers that do nothing. ``etag``: what becomes of an object's ETag."""

    name: str
    report: str
    refused: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    echoes: bool = True
    etag: Callable[[str], str] = lambda etag: etag
    sha256: bool = True  # what the probe should find
    checksum_mode: bool = True
    if_none_match: IfNoneMatch = IfNoneMatch.HONOURED
    proof: ProofKind = ProofKind.SHA256


def _unsupported(name: str) -> tuple[int, str, str]:
    return 400, "InvalidArgument", f"Unsupported header '{name}' received for this API call."


_NOT_IMPLEMENTED = (
    501, "NotImplemented", "A header you provided implies functionality that is not implemented",
)  # fmt: skip

BEHAVIOURS = (
    Behaviour("Amazon", "https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"),
    Behaviour(
        "Backblaze B2 (2024-07)",
        "https://github.com/iterate-ch/cyberduck/issues/16107 and "
        "https://github.com/vatesfr/xen-orchestra/issues/8358",
        refused={SHA256: _unsupported(SHA256), MODE: _unsupported(MODE)},
        echoes=False,
        sha256=False,
        checksum_mode=False,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "a B2 without conditions",
        "https://github.com/tobi/walgit/issues/67, of another server, with B2's checksums",
        refused={
            SHA256: _unsupported(SHA256),
            MODE: _unsupported(MODE),
            IF_NONE_MATCH: _NOT_IMPLEMENTED,
        },
        echoes=False,
        sha256=False,
        checksum_mode=False,
        if_none_match=IfNoneMatch.REFUSED,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "Cloudflare R2 (2023-06 on)",
        "https://github.com/cloudflare/cloudflare-docs/pull/9426: PutObject takes SHA-256; an echo "
        "is not reported, so none is assumed",
        echoes=False,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "Alibaba OSS (2026-09)",
        "https://github.com/tobi/walgit/issues/67",
        refused={IF_NONE_MATCH: _NOT_IMPLEMENTED},
        if_none_match=IfNoneMatch.REFUSED,
    ),
    Behaviour(
        "SeaweedFS 3.96",
        "https://github.com/seaweedfs/seaweedfs/issues/7153 and "
        "https://github.com/seaweedfs/seaweedfs/pull/8914 (no echo before it)",
        ignored=frozenset({IF_NONE_MATCH}),
        echoes=False,
        if_none_match=IfNoneMatch.IGNORED,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "SeaweedFS from 2026-04",
        "https://github.com/seaweedfs/seaweedfs/pull/8914",
    ),
    Behaviour(
        "Garage, early",
        "https://garagehq.deuxfleurs.fr/reference_manual/s3_compatibility.html: most "
        "x-amz- headers are not implemented",
        ignored=frozenset({SHA256, MODE, IF_NONE_MATCH}),
        echoes=False,
        if_none_match=IfNoneMatch.IGNORED,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "MinIO with encryption",
        "https://github.com/minio/minio/issues/20520: the ETag is a random value then",
        etag=lambda etag: f'"{etag.strip(chr(34))[::-1]}"',
    ),
    Behaviour(
        "Google, by its S3 interface (2025-02)",
        "https://github.com/henrysher/duplicity/issues/34: checksum headers end as "
        "SignatureDoesNotMatch",
        refused={SHA256: (403, "SignatureDoesNotMatch", "Invalid argument.")},
        echoes=False,
        sha256=False,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "OVH (2025-02)",
        "https://github.com/ovh/public-cloud-roadmap/issues/700: not implemented; the report "
        "has no status, 501 is assumed",
        refused={SHA256: _NOT_IMPLEMENTED},
        echoes=False,
        sha256=False,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "Storj before 2025-04",
        "https://github.com/storj/edge/issues/564: no conditional writes",
        ignored=frozenset({IF_NONE_MATCH, SHA256}),
        echoes=False,
        if_none_match=IfNoneMatch.IGNORED,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "Wasabi (2025-02)",
        "https://github.com/EnterpriseDB/barman/issues/1064: of a part with a CRC32; that a PUT "
        "with a SHA-256 is refused in the same way is assumed",
        refused={SHA256: (400, "InvalidRequest", "Checksum Type mismatch occurred")},
        echoes=False,
        sha256=False,
        proof=ProofKind.ETAG,
    ),
    Behaviour(
        "an ETag that is no MD5, no checksums",
        "https://github.com/chimera-nas/chimera/issues/469 and 1385",
        ignored=frozenset({SHA256}),
        echoes=False,
        etag=lambda etag: f'"{etag.strip(chr(34))[::-1]}"',
        proof=ProofKind.HEAD,
    ),
    Behaviour(
        "a CRC-32 and no other digest",
        "of several servers: the SDKs of 2025 send one by default, so it came before SHA-256",
        ignored=frozenset({SHA256}),
        etag=lambda etag: f'"{etag.strip(chr(34))[::-1]}"',
        proof=ProofKind.CRC32,
    ),
    Behaviour(
        "no ETag at all",
        "https://github.com/storj/storj/issues/3761",
        ignored=frozenset({SHA256}),
        echoes=False,
        etag=lambda _etag: '""',
        proof=ProofKind.NONE,
    ),
)


class Speaking:
    """Stands before the stand-in and makes it behave so."""

    def __init__(self, place: Place, behaviour: Behaviour) -> None:
        assert place.strict is not None
        self._server, self._behaviour = place.strict.server, behaviour
        self._application = self._server.application
        self._server.application = self
        self.puts: list[dict[str, str]] = []  # the headers of each, without HTTP_
        self.methods: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, is_object = environ["REQUEST_METHOD"], environ["RAW_URI"].count("/") > 1
        if not is_object or method not in ("PUT", "HEAD"):
            return self._application(environ, start)
        self.methods.append(method)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items() if name.startswith("HTTP_")
        }  # fmt: skip
        if method == "PUT":
            self.puts.append(headers)
        for name, (status, code, message) in self._behaviour.refused.items():
            if name in headers:
                if not status:
                    raise Reset
                while "expect" not in headers and environ["wsgi.input"].read(65536):
                    pass
                line, answered, body = error_reply(status, code, message)
                start(line, answered)
                return [b"" if method == "HEAD" else body]
        for name in self._behaviour.ignored:
            environ.pop(f"HTTP_{name.upper().replace('-', '_')}", None)
        return self._application(environ, lambda s, h: start(s, self._changed(h)))

    def _changed(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        kept = []
        for name, value in headers:
            if name.lower().startswith("x-amz-checksum-") and not self._behaviour.echoes:
                continue
            if name.lower() == "etag":
                value = self._behaviour.etag(value)
            kept.append((name, value))
        return kept

    def stop(self) -> None:
        self._server.application = self._application
