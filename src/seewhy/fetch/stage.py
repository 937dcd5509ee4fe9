"""The stage: a batch of ids and sources in, a batch of checked images or videos and failures out."""

import asyncio
import atexit
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from aiohttp.abc import AbstractResolver

import seewhy
from seewhy import schema, urls
from seewhy.failure import BAD_INPUT, TRANSIENT, Failure
from seewhy.fetch.addresses import AddressRule
from seewhy.fetch.files import read_local, read_stored
from seewhy.fetch.objects import GS, Described, describe_object
from seewhy.fetch.web import WEB, WebClient
from seewhy.images import MAX_BYTES, MAX_PIXELS, Checked, check_image, image_id
from seewhy.videos.check import CheckedVideo, check_video
from seewhy.videos.decoder import MAX_SECONDS, Decoder

VERSION = 3
"""Of the code that decides what an image is; part of the table's name."""
STORED_AT_ONCE = 32
"""Objects asked of a storage in one call: what is held if each is as large as allowed."""

IMAGE, VIDEO = "image", "video"

T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """What came of a source. Without a failure it has an id, and bytes that were checked or an object's description."""

    tries: int
    data: bytes | None = None
    image_id: str | None = None
    checked: Checked | CheckedVideo | None = None
    described: Described | None = None
    failure: Failure | None = None


class Fetch:
    """Sources to IMAGES rows: the same ids in the same order, each with its image or its failure; or to VIDEOS rows.

    Synchronous to its caller. Inside, an event loop on a thread of its own keeps one session of connections for the
    stage's life, and a few threads decode while the network is busy. Nothing is opened before the first batch, and
    the stage can be pickled at any time. A source is an http(s) URL, an absolute path or file:// URL, or a URL of any
    other scheme that fsspec has a file system for, unchained; a relative path must have been resolved before.

    An image of several frames or pages is ok and says so: its reason is "animated". With `by_uri` an object at a gs://
    URL is not read but for its first bytes; its row holds its type and an id of URI, generation and checksum, and no
    bytes. One whose facts may not be read is ok too, its reason is "unseen" (see `objects`).

    Failures: those of `images.check_image` or `videos.check.check_video`, and
        bad_input: no_source, forbidden_scheme, forbidden_address, forbidden_path, bad_url, bad_path, no_such_host,
            bad_certificate, bad_response, bad_encoding, unsupported_encoding, too_large, http_3xx and http_4xx;
            redirect_loop, redirect_without_location, too_many_redirects, redirect_bad_url, redirect_forbidden_scheme,
            redirect_no_such_host; of files not_found, not_a_file, forbidden
        transient, once all tries are spent: http_408, http_425, http_429, http_5xx, connect_timeout, connect_failed,
            tls_failed, timeout, stalled (no byte for a while), too_slow (too few), incomplete_body, disconnected,
            dns_failed (the resolver's trouble, where a name that does not exist is bad_input), read_failed

    Args:
        media: "image" or "video".
        max_bytes: of the body, unpacked, whatever Content-Length says.
        max_pixels: width x height, read from the header before anything is decoded.
        max_seconds: of a video.
        by_uri: objects at gs:// URLs are left where they are.
        timeout_sec: of one request and its body. Waiting for a slot does not count.
        connect_timeout_sec: of connecting, TLS apart.
        stall_timeout_sec: without a byte; and how long a body may be slower than `min_bytes_per_sec` on average.
        tries: requests for one source at most, redirects not counted.
        backoff_sec: the random wait before a second try is at most this, and doubles with each try.
        max_wait_sec: caps the back-off; a Retry-After beyond it leaves the row for the next run.
        concurrency: requests in flight at most, over all hosts.
        per_host: of them to one host.
        allow_private: True, or the hosts, addresses and networks that may be fetched from though they are not public.
        schemes: what may be fetched at all. `file` is needed for local paths, and so are `roots`.
        roots: folders below which local files must lie. A root such as gs://bucket/folder binds its scheme likewise.
        resolver: aiohttp's interface; None asks the system.

    Raises:
        ValueError: an argument is out of range.
        Fatal: in a batch, where a scheme that is allowed has no file system installed.
    """

    def __init__(
        self,
        *,
        media: str = IMAGE,
        max_bytes: int = MAX_BYTES,
        max_pixels: int = MAX_PIXELS,
        max_seconds: float = MAX_SECONDS,
        by_uri: bool = False,
        timeout_sec: float = 30.0,
        connect_timeout_sec: float = 10.0,
        stall_timeout_sec: float = 10.0,
        min_bytes_per_sec: float = 1000.0,
        tries: int = 4,
        backoff_sec: float = 0.5,
        max_wait_sec: float = 30.0,
        max_redirects: int = 8,
        concurrency: int = 64,
        per_host: int = 16,
        allow_private: bool | Sequence[str] = False,
        schemes: Sequence[str] = WEB,
        roots: Sequence[str] = (),
        user_agent: str = f"seewhy/{seewhy.__version__}",
        dns_cache_sec: int = 60,
        decode_threads: int = 2,
        resolver: AbstractResolver | None = None,
    ) -> None:
        for name, value in (("tries", tries), ("concurrency", concurrency), ("per_host", per_host)):
            if value < 1:
                raise ValueError(f"{name} is {value}, it must be 1 or more")
        if media not in (IMAGE, VIDEO):
            raise ValueError(f"media is {media!r}, it must be {IMAGE!r} or {VIDEO!r}")
        self._media, self._by_uri, self._max_seconds = media, by_uri, max_seconds
        self._decoder = Decoder(max_pixels=max_pixels, max_seconds=max_seconds) if media == VIDEO else None
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._schemes, self._roots = tuple(schemes), tuple(roots)
        self._tries, self._backoff_sec, self._max_wait_sec = tries, backoff_sec, max_wait_sec
        self._decode_threads = decode_threads
        self._new_client = partial(
            WebClient,
            rule=AddressRule(allow_private),
            schemes=self._schemes,
            max_bytes=max_bytes,
            timeout_sec=timeout_sec,
            connect_timeout_sec=connect_timeout_sec,
            stall_timeout_sec=stall_timeout_sec,
            min_bytes_per_sec=min_bytes_per_sec,
            tries=tries,
            backoff_sec=backoff_sec,
            max_wait_sec=max_wait_sec,
            max_redirects=max_redirects,
            concurrency=concurrency,
            per_host=per_host,
            dns_cache_sec=dns_cache_sec,
            user_agent=user_agent,
            resolver=resolver,
        )
        self._running: _Running | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns id and source (both strings) to the columns of schema.IMAGES, or of schema.VIDEOS."""
        if self._running is None:
            self._running = _Running(self._new_client, self._decode_threads)
        waiting = self._running.run(self._all(self._running, batch.column("source").to_pylist()))
        fetched = [future.result() for future in waiting]
        laid = _images if self._media == IMAGE else _videos
        return laid(batch.column(schema.ID), batch.column("source"), fetched)

    def close(self) -> None:
        """Ends connections, threads and processes. A later call opens new ones."""
        if self._running is not None:
            self._running.close()
            self._running = None
        if self._decoder is not None:
            self._decoder.close()

    async def _all(self, running: "_Running", sources: list[str | None]) -> list["Future[Fetched]"]:
        running.client.forget_hosts()
        results: dict[int, Future[Fetched]] = {}
        stored: dict[str, list[int]] = {}
        web: list[Coroutine[Any, Any, None]] = []
        for i, source in enumerate(sources):
            scheme = urls.scheme(source) if source else ""
            if not source:
                failure = Failure(BAD_INPUT, "no_source", "the manifest names none")
                results[i] = running.decode(self._check, failure, 1)
            elif scheme not in self._schemes:
                failure = Failure(BAD_INPUT, "forbidden_scheme", f"{scheme[:50]!r}, allowed are {list(self._schemes)}")
                results[i] = running.decode(self._check, failure, 1)
            elif scheme in WEB:
                web.append(self._from_web(running, source, i, results))
            elif scheme == "file":
                results[i] = running.decode(self._read, source)
            elif scheme == GS and self._by_uri:
                web.append(self._described(running, source, i, results))
            else:
                stored.setdefault(scheme, []).append(i)
        groups = [
            {i: str(sources[i]) for i in indices[at : at + STORED_AT_ONCE]}
            for indices in stored.values()
            for at in range(0, len(indices), STORED_AT_ONCE)
        ]
        await asyncio.gather(*web, *(self._from_storage(running, group, results) for group in groups))
        return [results[i] for i in range(len(sources))]

    async def _from_web(self, running: "_Running", source: str, i: int, results: dict[int, "Future[Fetched]"]) -> None:
        body, tries = await running.client.get(source)
        results[i] = running.decode(self._check, body, tries)

    async def _described(self, running: "_Running", source: str, i: int, results: dict[int, "Future[Fetched]"]) -> None:
        video = self._media == VIDEO
        look = partial(describe_object, source, roots=self._roots, video=video, max_seconds=self._max_seconds)
        for tried in range(1, self._tries + 1):
            found = await running.wait_for(look)
            if not isinstance(found, Failure) or found.kind != TRANSIENT or tried == self._tries:
                break
            await self._wait(tried)
        results[i] = running.decode(_left_there, found, tried)

    async def _wait(self, tried: int) -> None:
        await asyncio.sleep(random.uniform(0, min(self._backoff_sec * 2 ** (tried - 1), self._max_wait_sec)))

    async def _from_storage(
        self, running: "_Running", group: dict[int, str], results: dict[int, "Future[Fetched]"]
    ) -> None:
        for tried in range(1, self._tries + 1):
            read = partial(read_stored, list(group.values()), roots=self._roots, max_bytes=self._max_bytes)
            bodies = await running.wait_for(read)
            for i, body in zip(list(group), bodies, strict=True):
                if isinstance(body, bytes) or body.kind != TRANSIENT or tried == self._tries:
                    results[i] = running.decode(self._check, body, tried)
                    del group[i]
            if not group:
                return
            await self._wait(tried)

    def _read(self, source: str) -> Fetched:
        return self._check(read_local(source, roots=self._roots, max_bytes=self._max_bytes), 1)

    def _check(self, body: bytes | Failure, tries: int) -> Fetched:
        if isinstance(body, Failure):
            return Fetched(tries, failure=body)
        checked: Checked | CheckedVideo | Failure
        if self._decoder is None:
            checked = check_image(body, max_pixels=self._max_pixels, max_bytes=self._max_bytes)
        else:
            checked = check_video(body, self._decoder, max_bytes=self._max_bytes)
        if isinstance(checked, Failure):
            return Fetched(tries, failure=checked)
        return Fetched(tries, body, image_id(body), checked)


def _left_there(found: Described | Failure, tries: int) -> Fetched:
    if isinstance(found, Failure):
        return Fetched(tries, failure=found)
    return Fetched(tries, image_id=found.id, described=found)


class _Running:
    """What a stage holds open: an event loop on its own thread (the caller may have one too), a client, threads.

    Decoding has threads of its own, so that none waits behind a slow disk or a slow name server; they release the
    interpreter's lock, so that the network goes on meanwhile.
    """

    def __init__(self, new_client: Callable[[], WebClient], decode_threads: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._waiters = ThreadPoolExecutor(32, thread_name_prefix="wait")
        self._loop.set_default_executor(self._waiters)  # getaddrinfo runs there too
        self._thread = Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()
        self.client = self.run(_in_loop(new_client))
        atexit.register(self.close)  # for stages that nobody closes

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def decode(self, work: Callable[..., T], *args: Any) -> "Future[T]":
        """Not awaited: the loop has nothing to do with the result, and to be woken for each would slow it down."""
        return self._decoders.submit(work, *args)

    async def wait_for(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(None, work)

    def close(self) -> None:
        atexit.unregister(self.close)
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._decoders.shutdown()
        self._waiters.shutdown(wait=False)  # a name server may take its time to say nothing

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()


async def _in_loop(make: Callable[[], T]) -> T:
    return make()


def _images(ids: pa.ChunkedArray, sources: pa.ChunkedArray, fetched: list[Fetched]) -> pa.Table:
    checked = [each.checked for each in fetched]
    columns = {
        **_shared(ids, sources, fetched),
        "image": _uncopied([each.data for each in fetched], pa.binary()),
        "width": [each and each.width for each in checked],
        "height": [each and each.height for each in checked],
        "fingerprint": [each and each.fingerprint for each in checked],
    }
    return pa.table([columns[name] for name in schema.IMAGES.names], schema=schema.IMAGES)


def _videos(ids: pa.ChunkedArray, sources: pa.ChunkedArray, fetched: list[Fetched]) -> pa.Table:
    checked = [each.checked if isinstance(each.checked, CheckedVideo) else None for each in fetched]
    columns = {
        **_shared(ids, sources, fetched),
        "video": _uncopied([each.data for each in fetched], pa.large_binary()),
        "frame": [each and each.frame for each in checked],
        "width": [each and each.width for each in checked],
        "height": [each and each.height for each in checked],
        "seconds": [_seconds(each) for each in fetched],
        "frames": [each and each.frames for each in checked],
        "audio": [each and each.audio for each in checked],
        "fingerprint": [each and each.fingerprint for each in checked],
    }
    return pa.table([columns[name] for name in schema.VIDEOS.names], schema=schema.VIDEOS)


def _seconds(each: Fetched) -> float | None:
    if isinstance(each.checked, CheckedVideo):
        return each.checked.seconds
    return None if each.described is None else each.described.seconds


def _shared(ids: pa.ChunkedArray, sources: pa.ChunkedArray, fetched: list[Fetched]) -> dict[str, Any]:
    remarks = [_remark(each) for each in fetched]
    found = [each.checked or each.described for each in fetched]
    return {
        schema.ID: ids,
        "source": sources,
        "image_id": [each.image_id for each in fetched],
        "format": [each and each.format for each in found],
        "tries": [each.tries for each in fetched],
        schema.ERROR_KIND: [each.failure and each.failure.kind for each in fetched],
        schema.REASON: [reason for reason, _ in remarks],
        schema.DETAIL: [detail for _, detail in remarks],
    }


def _uncopied(bodies: list[bytes | None], kind: pa.DataType) -> pa.ChunkedArray:
    """A chunk a row, over the very bytes: a batch may hold gigabytes, and Arrow's copy of it would come on top."""
    offsets = np.int64 if kind == pa.large_binary() else np.int32
    chunks = []
    for body in bodies:
        if body is None:
            chunks.append(pa.nulls(1, kind))
        else:
            ends = np.array([0, len(body)], offsets)
            chunks.append(pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(ends), pa.py_buffer(body)]))
    return pa.chunked_array(chunks, kind)


def _remark(each: Fetched) -> tuple[str | None, str | None]:
    """Reason and detail of a failure, or of what is worth knowing about a row that is ok."""
    if each.failure:
        return each.failure.reason, each.failure.detail
    if isinstance(each.checked, Checked) and each.checked.frames > 1:
        return "animated", f"the first of {each.checked.frames} frames"
    if each.described and each.described.unseen:
        return "unseen", each.described.unseen
    return None, None
