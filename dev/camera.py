"""A simulated camera: photographs of its own, made from a real one, posted as devices do."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

FRAME = (1280, 860)  # about 250 KB as a JPEG of these photographs
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One image that was answered with 201."""

    id: str
    sha256: str
    size: int
    seconds: float  # from the request's first byte to the whole answer


@dataclass
class Camera:
    """Looks at one photograph, a little elsewhere in each frame, so that every byte differs."""

    name: str
    photograph: Image.Image
    seed: int
    every_seconds: float
    address: tuple[str, int]
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def frame(self, random_: random.Random) -> bytes:
        """The next photograph, as a JPEG."""
        width, height = self.photograph.size
        share = random_.uniform(0.7, 0.95)
        left = random_.uniform(0, width * (1 - share))
        top = random_.uniform(0, height * (1 - share))
        box = (left, top, left + width * share, top + height * share)
        seen = self.photograph.resize(FRAME, Image.Resampling.BILINEAR, box=box)
        file = io.BytesIO()
        seen.save(file, "JPEG", quality=random_.randint(90, 95))
        return file.getvalue()

    def work(self, ending: threading.Event) -> None:
        """Post a frame every so often until told to end."""
        random_ = random.Random(self.seed)
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT_SECONDS)
        due = time.monotonic() + random_.uniform(0, self.every_seconds)
        try:
            while not ending.wait(max(0.0, due - time.monotonic())):
                due += self.every_seconds
                self._post(connection, self.frame(random_))
        finally:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection, image: bytes) -> None:
        boundary = "----camera"
        head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="image"; filename="{self.name}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        body = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "X-Device": self.name,
        }
        started = time.perf_counter()
        try:
            connection.request("POST", "/uploadImage", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except OSError as error:
            self.refused.append(str(error))
            connection.close()
            return
        seconds = time.perf_counter() - started
        digest = hashlib.sha256(image).hexdigest()
        receipt = json.loads(said) if answer.status == 201 else {}
        if receipt.get("sha256") != digest:
            self.refused.append(f"{answer.status}: {said.decode(errors='replace').strip()}")
            return
        self.acknowledged.append(Acknowledged(receipt["id"], digest, len(image), seconds))


def fleet(photographs: Path, count: int, every: float, address: tuple[str, int]) -> list[Camera]:
    """So many cameras, spread over the photographs of a folder."""
    files = sorted(path for path in photographs.iterdir() if path.suffix in (".jpg", ".png"))
    loaded = [Image.open(file).convert("RGB") for file in files]
    return [
        Camera(f"cam-{n:02}", loaded[n % len(loaded)], n, every, address)
        for n in range(1, count + 1)
    ]
