"""What a command says of an error where ``--json`` is given: the object that HTTP answers with (RFC
9457), so that programs read one of them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from headgate.host.exit_codes import Exit

_KINDS: Mapping[Exit, tuple[str, HTTPStatus]] = {
    Exit.USAGE: ("usage", HTTPStatus.BAD_REQUEST),
    Exit.LOCKED: ("locked", HTTPStatus.CONFLICT),
    Exit.UPLINK_DOWN: ("uplink_down", HTTPStatus.SERVICE_UNAVAILABLE),
}
_MISSING = ("not_found", HTTPStatus.NOT_FOUND)
_OTHER = ("error", HTTPStatus.INTERNAL_SERVER_ERROR)
_RETRY = (Exit.LOCKED, Exit.UPLINK_DOWN)


def problem(
    sentence: str, code: Exit, faults: Sequence[str] = (), *, missing: bool = False
) -> dict[str, object]:
    """The object for a command that ends with this exit code. ``status`` is what HTTP would say;
    ``retry``: the same call may work later; ``faults``: of settings, one sentence each;
    ``missing``: nothing has the name that the caller gave."""
    word, status = _MISSING if missing else _KINDS.get(code, _OTHER)
    members: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": sentence,
        "code": word,
        "retry": code in _RETRY,
        "exit_code": int(code),
    }
    return members | ({"faults": list(faults)} if faults else {})
