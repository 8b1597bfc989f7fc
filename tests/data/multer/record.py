"""``python tests/data/multer/record.py``: record anew what clients of a multer service send.

Needs curl, node, npm with a registry, and chromium. Each client posts one small photograph, as it
would to ``app.post(..., upload.single("image"), ...)``; what arrives is kept, every byte of it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import re
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "picture.jpg"
SECONDS = 60
PACKAGES = ("axios@0.27.2", "node-fetch@2.7.0", "form-data@4.0.0")

AXIOS_STREAM = """
const axios = require("axios"), FormData = require("form-data"), fs = require("fs");
const form = new FormData();
form.append("cameraId", "7");
form.append("image", fs.createReadStream(process.argv[2]), "gate 1.jpg");
axios.post(process.argv[1], form, { headers: form.getHeaders() });
"""
AXIOS_BUFFER = """
const axios = require("axios"), FormData = require("form-data"), fs = require("fs");
const form = new FormData();
const named = { filename: "gate.jpg", contentType: "image/jpeg" };
form.append("image", fs.readFileSync(process.argv[2]), named);
axios.post(process.argv[1], form.getBuffer(), { headers: form.getHeaders() });
"""
NODE_FETCH = """
const fetch = require("node-fetch"), FormData = require("form-data"), fs = require("fs");
const form = new FormData();
form.append("image", fs.createReadStream(process.argv[2]));
form.append("timestamp", "1763913845123");
fetch(process.argv[1], { method: "POST", body: form });
"""
HTML = """<!doctype html><meta charset="utf-8">
<form method="post" enctype="multipart/form-data" action="{url}">
<input name="comment" value="Tor, früh"><input type="file" name="image"></form>
<script>
const bytes = Uint8Array.from(atob("{image}"), c => c.charCodeAt(0)), chosen = new DataTransfer();
chosen.items.add(new File([bytes], "Küche.jpg", {{type: "image/jpeg"}}));
document.querySelector("[type=file]").files = chosen.files;
document.querySelector("form").submit();
</script>"""


def record(name: str, *command: str, cwd: str | None = None) -> None:
    """Keep what one client sends to an address that it gets as ``URL`` in its command."""
    arrived: queue.Queue[bytes] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/uploadImage"
        threading.Thread(target=_listen, args=(listening, arrived), daemon=True).start()
        quiet = subprocess.DEVNULL
        client = subprocess.Popen(
            [word.replace("URL", url) for word in command], cwd=cwd, stdout=quiet, stderr=quiet
        )
        received = arrived.get(timeout=SECONDS)
        client.wait(SECONDS)
    # The port is of this recording alone.
    received = re.sub(rb"(?i)(host: |http://)127\.0\.0\.1:\d+", rb"\g<1>gateway:3000", received)
    (HERE / f"{name}.http").write_bytes(received)
    print(f"{name}: {len(received)} bytes", flush=True)


def _listen(listening: socket.socket, arrived: queue.Queue[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection, arrived), daemon=True).start()


def _answer(connection: socket.socket, arrived: queue.Queue[bytes]) -> None:
    """Browsers open connections that they do not use; those never get as far as an answer."""
    received, said = b"", json.dumps({"filename": "1763913845123.jpg"}).encode()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(SECONDS)
        while not _whole(received):
            if not (piece := connection.recv(65536)):
                return
            received += piece
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(said), said)
        )
        if received.startswith(b"POST"):
            arrived.put(received)


def _whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if length is None:
        return body.endswith(b"0\r\n\r\n") or not head.startswith(b"POST")
    return len(body) >= int(length[1])


def main() -> None:
    picture = str(PICTURE)
    record("curl", "curl", "-s", "-F", f"image=@{picture}", "-F", "cameraId=7", "URL")
    with tempfile.TemporaryDirectory() as folder:
        quiet = ("--no-audit", "--no-fund", "--silent", "--prefix", folder)
        subprocess.run(["npm", "install", *quiet, *PACKAGES], check=True)
        for name, code in (
            ("axios-0.27-stream", AXIOS_STREAM),
            ("axios-0.27-buffer", AXIOS_BUFFER),
            ("node-fetch-2", NODE_FETCH),
        ):
            record(name, "node", "-e", code, "URL", picture, cwd=folder)
        image = base64.b64encode(PICTURE.read_bytes()).decode()
        page = Path(folder) / "form.html"  # sed puts the address in, once it is known
        page.write_text(HTML.format(url="", image=image), encoding="utf-8")
        browser = (
            f'sed -i \'s#action="[^"]*"#action="URL"#\' {page} && chromium --headless '
            "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
            "--disable-background-networking --disable-component-update "
            f"--user-data-dir={folder}/profile --virtual-time-budget=5000 --dump-dom file://{page}"
        )
        record("html-form", "sh", "-c", browser)


if __name__ == "__main__":
    main()
