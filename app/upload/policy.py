"""The picture decides: a fault in the rest of a request is a warning, not a refusal. Pure.

One policy in one place. A refusal costs a picture that cannot be taken again, so what cannot be
used of a request is kept as it came (within bounds), said in the receipt's ``warnings``, counted
for the device, and the image is stored. ``receiver.strict`` refuses instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app.refusals import Refused
from headgate.spool.image.image import Remarks

AS_SENT_MAX = 200
"""Characters that are kept of one value as it came."""
WARNINGS_MAX = 8
WARNING_MAX = 160
"""Characters of a warning."""


@dataclass(slots=True)
class Policy:
    """What is remarked about one upload, in the order in which it was noticed."""

    strict: bool = False
    may_grow: bool = False  # it comes from a file that may still be being written
    warnings: list[str] = field(default_factory=list)
    as_sent: dict[str, str] = field(default_factory=dict)

    def remark(self, refused: Refused, sentence: str = "") -> None:
        """Go on without what ``refused`` would have refused; raise it if the receiver is strict.
        ``sentence`` says it to people, where the refusal's own does not fit."""
        if self.strict:
            raise refused
        self.say(sentence or refused.sentence)

    def say(self, sentence: str) -> None:
        """A warning that no receiver refuses anything for."""
        sentence = sentence if len(sentence) <= WARNING_MAX else f"{sentence[: WARNING_MAX - 3]}..."
        if sentence not in self.warnings and len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(sentence)

    def keep(self, name: str, text: str) -> None:
        """Keep a value as it came, because it could not be used."""
        self.as_sent.setdefault(name[:64], text[:AS_SENT_MAX])

    def remarks(self, complete: bool) -> Remarks:
        """What the receipt of one picture says about the upload."""
        return Remarks(tuple(self.warnings), complete)
