"""A real server on the loopback that does every wrong thing a server can do, and a resolver that answers from a table.

The first part of a path names what happens to the request: see PATHS.
"""

import asyncio
import gzip
import io
import socket
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from threading import Thread

from aiohttp.abc import AbstractResolver, ResolveResult
from PIL import Image


def picture(format: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(out, format, **options)
    return out.getvalue()


JPEG = picture()
Handler = Callable[["Server", asyncio.StreamWriter, int], Awaitable[None]]


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


class Server:
    """A path's name says what it does; `seen` counts requests by path, `most` the requests that were open at once."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.heads: list[str] = []
        self.times: list[float] = []
        self.open = self.most = self.epoch = self.connections = 0
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.port = 0
        starting = [asyncio.run_coroutine_threadsafe(self._listen(host), self.loop).result() for host in HOSTS]
        self.servers = starting

    async def _listen(self, host: str) -> asyncio.Server:
        server = await asyncio.start_server(self._talk, host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                path = head.split(" ", 2)[1].partition("?")[0]
                self.seen[path] += 1
                self.heads.append(head)
                self.times.append(time.monotonic())
                self.open += 1
                epoch = self.epoch
                self.most = max(self.most, self.open)
                try:
                    await PATHS[path.strip("/").partition("/")[0]](self, writer, self.seen[path])
                    await writer.drain()
                finally:
                    self.open -= epoch == self.epoch
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def reset(self) -> None:
        """Forgets what was seen, and requests that hang from before."""
        for seen in (self.seen, self.heads, self.times):
            seen.clear()
        self.open = self.most = 0
        self.epoch += 1

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    def close(self) -> None:
        async def end() -> None:
            for server in self.servers:
                server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


HOSTS = ("127.0.0.1", "127.0.0.2")


def says(*args: bytes | int, **headers: str) -> Handler:
    reply = answer(*args, **headers)  # type: ignore[arg-type]

    async def handle(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
        writer.write(reply)

    return handle


def leads(to: str) -> Handler:
    async def handle(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
        writer.write(answer(302, Location=to.format(port=server.port, nth=len(server.heads))))

    return handle


def then_image(times: int, *args: int, **headers: str) -> Handler:
    """The answer so many times, then the image."""
    reply = answer(*args, **headers)  # type: ignore[arg-type]

    async def handle(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
        writer.write(reply if nth <= times else answer(200, JPEG))

    return handle


async def slow(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    await asyncio.sleep(0.05)
    writer.write(answer(200, JPEG))


async def hang(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    await asyncio.sleep(20)


async def hang_in_body(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.write(answer(200, JPEG)[:-10])
    await asyncio.sleep(20)


async def drip(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.write(answer(200, JPEG)[: -len(JPEG)])
    for i in range(len(JPEG)):
        writer.write(JPEG[i : i + 1])
        await writer.drain()
        await asyncio.sleep(0.02)


async def drop(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.write(answer(200, JPEG)[:-10])
    writer.close()


async def drop_once(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.write(answer(200, JPEG)[: None if nth > 1 else -10])
    if nth == 1:
        writer.close()


async def hang_up(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.transport.abort()


async def endless(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
        await writer.drain()


async def no_http(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    writer.write(b"220 smtp.example ESMTP\r\n\r\n")
    writer.close()


async def date(server: Server, writer: asyncio.StreamWriter, nth: int) -> None:
    later = {"Retry_After": formatdate(time.time() + 2, usegmt=True)}
    writer.write(answer(503, **later) if nth == 1 else answer(200, JPEG))


PATHS: dict[str, Handler] = {
    "ok": says(200, JPEG),
    "slow": slow,
    "not-found": says(404, b"<html>"),
    "gone": says(410),
    "secret": says(403),
    "login": says(401),
    "teapot": says(418),
    "unchanged": says(304),
    "busy": says(503),
    "limit": says(429),
    "early": says(425),
    "broken": says(500),
    "cdn": says(522),
    "page": says(200, b"<!doctype html><p>no hotlinks", Content_Type="image/jpeg"),
    "nothing": says(200, b""),
    "no-content": says(204),
    "cut": says(200, JPEG[:-40]),
    "text": says(200, JPEG, Content_Type="text/html"),
    "gif": says(
        200,
        picture("GIF", save_all=True, append_images=[Image.new("RGB", (32, 16), name) for name in ("blue", "lime")]),
    ),
    "large": says(200, bytes(20_001)),
    "liar": says(200, bytes(30_000), Content_Length=""),
    "endless": endless,
    "gzip": says(200, gzip.compress(JPEG), Content_Encoding="gzip"),
    "deflate": says(200, zlib.compress(JPEG), Content_Encoding="deflate"),
    "gzip-bomb": says(200, gzip.compress(bytes(15_000_000), 9), Content_Encoding="gzip"),
    "gzip-cut": says(200, gzip.compress(JPEG)[:-20], Content_Encoding="gzip"),
    "gzip-bad": says(200, JPEG, Content_Encoding="gzip"),
    "brotli": says(200, JPEG, Content_Encoding="br"),
    "hang": hang,
    "hang-in-body": hang_in_body,
    "drip": drip,
    "drop": drop,
    "drop-once": drop_once,
    "hang-up": hang_up,
    "no-http": no_http,
    "busy-twice": then_image(2, 503),
    "wait": then_image(1, 429, Retry_After="0.4"),
    "wait-long": then_image(1, 503, Retry_After="3600"),
    "date": date,
    "to-ok": leads("/ok"),
    "to-to-ok": leads("to-ok"),
    "to-nowhere": says(302),
    "to-self": leads("/to-self"),
    "round": leads("http://127.0.0.1:{port}/round/2"),
    "on-and-on": leads("/on-and-on/{nth}?{nth}"),
    "to-file": leads("file:///etc/passwd"),
    "to-gopher": leads("gopher://127.0.0.1/"),
    "to-nonsense": leads("http://[::1/"),
    "to-no-host": leads("http://no-such-host.test/x.jpg"),
    "to-neighbour": leads("http://127.0.0.2:{port}/ok"),
    "to-metadata": leads("http://169.254.169.254/latest/meta-data/"),
    "to-odd": leads("http://2130706434:{port}/ok"),
    "to-name": leads("http://inside.test:{port}/ok"),
    "cookie": says(302, Location="/ok", Set_Cookie="a=b"),
}


class Names(AbstractResolver):
    """Answers from a table: the nth question for a name gets the nth answer, and then the last for ever."""

    def __init__(self, **names: list[list[str] | OSError]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: Counter[str] = Counter()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET):
        answers = self.names.get(host, [socket.gaierror(socket.EAI_NONAME, "Name or service not known")])
        found = answers[min(self.asked[host], len(answers) - 1)]
        self.asked[host] += 1
        if isinstance(found, OSError):
            raise found
        return [
            ResolveResult(hostname=host, host=each, port=port, family=socket.AF_INET, proto=0, flags=0)
            for each in found
        ]

    async def close(self) -> None:
        pass
