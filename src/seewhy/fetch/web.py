"""http and https: one URL to the bytes behind it, politely, with limits on everything a server could abuse."""

import asyncio
import random
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from seewhy.failure import BAD_INPUT, TRANSIENT, Failure
from seewhy.fetch.addresses import AddressRule, ForbiddenAddress, GuardedResolver, literal_address
from seewhy.fetch.connection import cause_of, reason_of
from seewhy.fetch.reasons import NotFetched, by_status, retry_after_sec

WEB = ("http", "https")
REDIRECTS = (301, 302, 303, 307, 308)
ACCEPT = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,*/*;q=0.1"
NOT_ESCAPED = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]|%(?![0-9A-Fa-f]{2})")
LASTING = ("bad_certificate", "no_such_host", "bad_response", "bad_encoding", "bad_url")
"""Troubles of a connection that stay until the manifest or its host changes. All others may pass."""
COMPRESSED = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's wbits


@dataclass
class _Host:
    slots: asyncio.Semaphore
    resume_at: float = 0.0  # on the loop's clock: its Retry-After


class WebClient:
    """Fetches with one aiohttp session. To be built, used and closed on one event loop.

    A try is one chain of requests from the URL through its redirects. It is made again, after a random wait that
    doubles (full jitter), only on transient failures. A Retry-After pauses the whole host; one longer than
    `max_wait_sec` ends the row as transient: the next run is the time to ask again. (aiohttp itself asks once more
    within a try where the server hangs up without a word, as on a connection kept for too long.)

    Checked in this order: scheme; literal address; slots of the host and of all; the resolved addresses; the address
    of each socket; status; declared length; then, while the body comes in, its pace and its size unpacked. Every hop
    of a redirect passes through all of it. No cookies are kept, and no proxy is taken from the environment.
    """

    def __init__(
        self,
        *,
        rule: AddressRule,
        schemes: Collection[str],
        max_bytes: int,
        timeout_sec: float,
        connect_timeout_sec: float,
        stall_timeout_sec: float,
        min_bytes_per_sec: float,
        tries: int,
        backoff_sec: float,
        max_wait_sec: float,
        max_redirects: int,
        concurrency: int,
        per_host: int,
        dns_cache_sec: int,
        user_agent: str,
        resolver: AbstractResolver | None,
    ) -> None:
        self._rule = rule
        self._schemes = [scheme for scheme in WEB if scheme in schemes]
        self._max_bytes = max_bytes
        self._stall_timeout_sec = stall_timeout_sec
        self._min_bytes_per_sec = min_bytes_per_sec
        self._tries = tries
        self._backoff_sec = backoff_sec
        self._max_wait_sec = max_wait_sec
        self._max_redirects = max_redirects
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=concurrency,
                resolver=GuardedResolver(resolver or aiohttp.ThreadedResolver(), rule),
                socket_factory=rule.make_socket,
                use_dns_cache=dns_cache_sec > 0,
                ttl_dns_cache=dns_cache_sec,
            ),
            timeout=aiohttp.ClientTimeout(
                total=timeout_sec, sock_connect=connect_timeout_sec, sock_read=stall_timeout_sec
            ),
            headers={"User-Agent": user_agent, "Accept": ACCEPT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()

    def forget_hosts(self) -> None:
        """Between batches: keeps the book of hosts from growing with the web. Hosts that asked for a pause stay."""
        now = self._loop.time()
        self._hosts = {name: host for name, host in self._hosts.items() if host.resume_at > now}

    async def get(self, source: str) -> tuple[bytes | Failure, int]:
        """The body behind a URL, or why there is none; and the number of tries."""
        for tried in range(1, self._tries + 1):
            try:
                return await self._follow(source), tried
            except NotFetched as error:
                failure, wait = error.failure, error.retry_after_sec or 0.0
            if failure.kind != TRANSIENT or tried == self._tries or wait > self._max_wait_sec:
                break
            await asyncio.sleep(random.uniform(0, min(self._backoff_sec * 2 ** (tried - 1), self._max_wait_sec)))
        return failure, tried

    async def _follow(self, source: str) -> bytes:
        url = self._entered(source, None)
        seen = {url}
        for _ in range(self._max_redirects + 1):
            found = await self._request(url, redirect=len(seen) > 1)
            if isinstance(found, bytes):
                return found
            url = self._entered(found, url)
            if url in seen:
                raise NotFetched(BAD_INPUT, "redirect_loop", f"back to {shown(url)}")
            seen.add(url)
        raise NotFetched(BAD_INPUT, "too_many_redirects", f"more than {self._max_redirects}, the last to {shown(url)}")

    def _entered(self, text: str, base: URL | None) -> URL:
        """The URL that a manifest (no base) or a Location names, if it may be asked."""
        try:
            return self._checked(parse_url(text) if base is None else base.join(parse_url(text)).with_fragment(None))
        except ValueError as error:
            why = NotFetched(BAD_INPUT, "bad_url", "no URL")
            raise (why if base is None else redirected(why)) from error
        except NotFetched as error:
            raise (error if base is None else redirected(error)) from error

    def _checked(self, url: URL) -> URL:
        """The URL, its host's odd spellings of an IPv4 address made plain, if its scheme and address are allowed."""
        if url.scheme not in self._schemes:
            raise NotFetched(BAD_INPUT, "forbidden_scheme", f"{url.scheme!r}, allowed are {self._schemes}")
        if not url.host:
            raise NotFetched(BAD_INPUT, "bad_url", "no host")
        address = literal_address(url.host)
        if address is None:
            return url
        if not self._rule.allows(address):
            raise NotFetched(BAD_INPUT, "forbidden_address", f"{address} is not a public address")
        return url.with_host(str(address)) if address.version == 4 else url

    async def _request(self, url: URL, *, redirect: bool) -> bytes | str:
        """The body; or, of a redirect, where to."""
        host = self._hosts.setdefault((url.host or "").lower(), _Host(asyncio.Semaphore(self._per_host)))
        async with host.slots:
            while (pause := host.resume_at - self._loop.time()) > 0:
                await asyncio.sleep(pause)
            async with self._slots:
                try:
                    async with self._session.get(url, allow_redirects=False) as response:
                        return await self._answer(response)
                except NotFetched as error:
                    if error.retry_after_sec and error.retry_after_sec <= self._max_wait_sec:
                        host.resume_at = max(host.resume_at, self._loop.time() + error.retry_after_sec)
                    raise
                except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
                    why = explained(error, url)
                    raise (redirected(why) if redirect else why) from error

    async def _answer(self, response: aiohttp.ClientResponse) -> bytes | str:
        if response.status in REDIRECTS:
            if "Location" not in response.headers:
                raise NotFetched(BAD_INPUT, "redirect_without_location", f"status {response.status}")
            return response.headers["Location"]
        if not 200 <= response.status < 300:
            wait = retry_after_sec(response.headers.get("Retry-After"))
            raise NotFetched.of(by_status(response.status), retry_after_sec=wait)
        return await self._body(response)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_large()
        unpack = unpacker(response.headers.get("Content-Encoding", ""))
        start, received, size = self._loop.time(), 0, 0
        pieces = []
        async for piece in response.content.iter_any():
            received += len(piece)
            spent = self._loop.time() - start
            if spent > self._stall_timeout_sec and received < spent * self._min_bytes_per_sec:
                raise NotFetched(TRANSIENT, "too_slow", f"{received} bytes in {spent:.1f} s")
            if unpack:
                piece = unpack.decompress(piece, self._max_bytes + 1 - size)
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_large()
            pieces.append(piece)
        if unpack and not unpack.eof:
            raise NotFetched(TRANSIENT, "incomplete_body", "the compressed body ended early")
        return b"".join(pieces)

    def _too_large(self) -> NotFetched:
        return NotFetched(BAD_INPUT, "too_large", f"more than the {self._max_bytes} bytes allowed")


def parse_url(text: str) -> URL:
    """What is escaped stays as it stands: a signed URL must reach its server with just the escapes that were signed.

    Raises:
        ValueError: `text` is no URL.
    """
    text = text.strip()
    if not urlsplit(text).netloc.isascii():
        return URL(text)  # a host in another script: yarl turns it into IDNA
    return URL(NOT_ESCAPED.sub(lambda found: quote(found[0], safe=""), text), encoded=True)


def shown(url: URL) -> str:
    """A URL for people and logs: without user, password, query and fragment, all of which may hold secrets."""
    return f"{url.scheme}://{url.raw_host or ''}{'' if url.is_default_port() else f':{url.port}'}{url.raw_path}"[:300]


def unpacker(encoding: str) -> "zlib._Decompress | None":
    """For servers that compress though we ask them not to. None: the body is not compressed."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in COMPRESSED:
        raise NotFetched(
            BAD_INPUT, "unsupported_encoding", f"Content-Encoding {encoding[:50]!r}, which was not asked for"
        )
    return zlib.decompressobj(COMPRESSED[encoding])


def redirected(error: NotFetched) -> NotFetched:
    """Where a redirect leads nowhere, its reason says so. A forbidden address keeps its name, however it was met."""
    failure = error.failure
    if failure.reason not in ("forbidden_scheme", "bad_url", "no_such_host"):
        return error
    return NotFetched(failure.kind, f"redirect_{failure.reason}", failure.detail)


def explained(error: Exception, url: URL) -> NotFetched:
    """What aiohttp raised, as kind and reason."""
    cause = cause_of(error)
    if isinstance(cause, ForbiddenAddress):
        return NotFetched(BAD_INPUT, "forbidden_address", f"{url.raw_host}: {cause}")
    reason = reason_of(error)
    detail = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(error).__name__
    return NotFetched(BAD_INPUT if reason in LASTING else TRANSIENT, reason, f"{shown(url)}: {detail}")
