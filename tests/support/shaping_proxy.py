"""A link in a program's thread: far away, narrow, or one that breaks connections."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.wait import join, wait_for_event

_PIECE = 16 * 1024


@dataclass
class Link:
    """A TCP proxy before a server. ``delay`` each way; ``rate`` outward, over all connections
    together; every ``breaks``-th connection is reset once it carried ``carries`` bytes."""

    server: str
    delay: float = 0.0
    rate: float = 0.0
    breaks: int = 0
    carries: int = 0
    connections: int = 0
    at_once: int = 0  # connections with a request under way, at most
    received: int = 0
    _busy: int = 0
    _free_at: float = 0.0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __enter__(self) -> Link:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        wait_for_event(started, "the proxy listens")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        join(self._thread)
        self._loop.close()

    def _run(self, started: threading.Event) -> None:
        self._loop.run_until_complete(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        started.set()
        await self._stop.wait()
        listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        doomed = bool(self.breaks) and self.connections % self.breaks == 0
        there = urlsplit(self.server)
        up_reader, up = await asyncio.open_connection(there.hostname, there.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, up, outward=True, doomed=doomed))
                group.create_task(self._carry(up_reader, writer, outward=False, doomed=False))
        except* (OSError, EOFError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            up.transport.abort()

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        outward: bool,
        doomed: bool,
    ) -> None:
        carried = 0
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    raise EOFError
                sink.write(data)
                await sink.drain()

        arriving = asyncio.create_task(arrive())
        try:
            while data := await source.read(_PIECE):
                carried += len(data)
                if outward:
                    self.received += len(data)
                    await self._pass(len(data))
                    if doomed and carried > self.carries:
                        raise EOFError
                under_way.put_nowait((time.monotonic() + self.delay, data))
            under_way.put_nowait((time.monotonic() + self.delay, b""))
            await arriving
        finally:
            arriving.cancel()

    async def _pass(self, size: int) -> None:
        """Wait for the narrow part of the way."""
        if self.rate:
            self._free_at = max(self._free_at, time.monotonic()) + size / self.rate
            await asyncio.sleep(self._free_at - time.monotonic())
