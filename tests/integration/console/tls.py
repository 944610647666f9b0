"""What ends TLS before a console, as an ingress does: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from tests.certificates import Authority

CHUNK = 65536


@contextmanager
def ending_tls(port: int, target: str, folder: Path) -> Iterator[None]:
    """Listens on the port with a certificate of its own, and hands what it hears to the target (host:port)."""
    certificate, key = Authority(folder, "authority").issue("console")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    host, _, target_port = target.rpartition(":")

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            behind_reader, behind = await asyncio.open_connection(host, int(target_port))
            with closing(behind):
                both = [asyncio.ensure_future(pour(reader, behind)), asyncio.ensure_future(pour(behind_reader, writer))]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for one in both:
                    one.cancel()

    async def serve() -> None:
        stop = asyncio.Event()
        async with await asyncio.start_server(connect, "127.0.0.1", port, ssl=context):
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    with ThreadPoolExecutor(1) as threads:
        served = threads.submit(asyncio.run, serve())
        loop, stop = started.result()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(stop.set)
            served.result()


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side has closed."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        return
