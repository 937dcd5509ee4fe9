"""Backends behind an HTTP service: many calls in flight, one loop of tries, answers in the order of the requests.

What a service is asked and what its answers mean is each backend's own; how often, how long and how many at once is
here. The event loop lives on a thread of its own, so that its caller needs none and may have one.
"""

import asyncio
import atexit
import io
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, TypeVar

from PIL import Image

from seewhy.failure import BAD_INPUT, NOT_ASKED, TRANSIENT, Failure, Fatal
from seewhy.fetch.connection import BEFORE_SENDING, reason_of
from seewhy.fetch.reasons import by_status
from seewhy.images import ORIENTATION_TAG, UPRIGHT, decode
from seewhy.overlay import encode_jpeg
from seewhy.vlm.base import Answer, Request
from seewhy.vlm.pace import Outcome, OutOfBudget, Pace

T = TypeVar("T")

PASSING_STATUS = (409, 499)
"""Beside those of `by_status`: the call collided with another, or was cancelled on the service's side."""
GAVE_UP_STATUS = (408, 499, 504, 524)
"""Somebody on the way stopped waiting (524 is Cloudflare's): the model may have run all the same."""

TURNS_APART = 8
"""Turns of the event loop between the starts of two calls: a client needs a few from the request to its bytes sent."""

LONGEST_DETAIL = 500
"""Characters of a service's message that a row keeps."""


@dataclass(frozen=True)
class Reply:
    """What one call came to.

    Attributes:
        answer: one whose failure is transient may be another at the next try; every other one stands.
        limited: the service said that it is asked too much.
        retry_after_sec: how long it asked to be left alone; None if it said nothing.
        free: no model was run, so that nothing is charged. Of a call that was cut off nobody knows.
    """

    answer: Answer
    limited: bool = False
    retry_after_sec: float | None = None
    free: bool = False


def refused(failure: Failure, *, limited: bool = False, retry_after_sec: float | None = None) -> Reply:
    """For a call that no model was run for."""
    return Reply(Answer(failure=failure), limited, retry_after_sec, free=True)


def refused_by_status(
    status: int, message: str, *, limited: bool = False, retry_after_sec: float | None = None
) -> Reply:
    """For a call that was answered with an HTTP status other than 2xx, and the service's own words."""
    free = status not in GAVE_UP_STATUS
    return Reply(Answer(failure=by_answer(status, message)), limited, retry_after_sec, free=free)


def cut_off(failure: Failure) -> Reply:
    """For a call that went out and whose answer did not come in, whatever it may have cost."""
    return Reply(Answer(failure=failure))


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How a service is asked. None of it changes an answer.

    Attributes:
        concurrency: requests in flight at most.
        tries: calls for one request at most.
        timeout_sec: of one call.
        total_timeout_sec: of one request: its calls and the waits that they lead to. Waiting to be let begin (for a
            slot, for the pace, for the end of a pause that another request met) does not count.
        backoff_sec: the random wait before a second try is at most this, and doubles with each try.
        max_wait_sec: caps the random wait; a service that asks for more leaves the row to the next run.
        give_up_sec: a service that has answered nothing for so long, and none of the last `concurrency` requests,
            stops the job: a day of time-outs would come to no more.
        pace: asked before every call, told after it, also where a call was cut off. None: nobody to ask.

    Raises:
        ValueError: a value is out of range.
    """

    concurrency: int = 64
    tries: int = 6
    timeout_sec: float = 120.0
    total_timeout_sec: float = 600.0
    backoff_sec: float = 1.0
    max_wait_sec: float = 60.0
    give_up_sec: float = 1800.0
    pace: Pace | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be 1 or more")
        for name in ("timeout_sec", "total_timeout_sec", "give_up_sec"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be above 0")
        for name in ("backoff_sec", "max_wait_sec"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be 0 or more")


class Online:
    """Asks a service about requests: ``generate(requests)`` -> as many answers, in their order.

    A try is one call. It is made again only where its failure is transient, after a random wait whose bound doubles
    (full jitter, Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) and after what the
    service asked for. With nobody to set a pace, that pauses all requests of this backend, because a service that is
    asked too much is asked too much by all of them; with a pace it is told, and only the request itself waits. A
    request keeps its place among those in flight while it waits, so that a service in trouble is asked less.

    The tokens of an answer are those of all its tries: each of them is paid for. A request that the pace has no money
    for is not asked, which is its failure's reason; those in flight go on. So it is where something else stops the job
    (``Fatal``): calls in flight are waited for, because they are paid for, and the answers of those and of earlier ones
    come back beside requests that were not asked, whose failure tells why. A later run asks those.

    Args:
        ask: one call. Raises ``Fatal`` for what stops the job and nothing else; may be cancelled at any time.
        guess: how many tokens a request will have the model read, rather too many than too few: a budget relies on it.
        most_written: tokens that the model may write.
        end: closes what `ask` holds open; awaited on the loop, by ``close``.
        calls: how many at once, how often, how long.

    Raises:
        Fatal: of `generate`, from `ask` or from the pace, where no request has an answer to give back.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        guess: Callable[[Request], int],
        most_written: int,
        end: Callable[[], Awaitable[None]],
        calls: Calls,
    ) -> None:
        self._ask, self._guess, self._most_written, self._end = ask, guess, most_written, end
        self._calls = calls
        self._guessed_low = 1.0  # how many times more than was guessed a request has had the model read, at worst
        self._lost = 0  # requests since one was answered, be it by a refusal
        self._heard_at: float | None = None  # when that was, by time.monotonic
        self._resume_at = 0.0  # on the loop's clock
        self._loop: _LoopThread | None = None

    def generate(self, requests: list[Request]) -> list[Answer]:
        """As many answers as requests, in order. The first call opens the loop's thread."""
        if self._loop is None:
            self._loop = _LoopThread(self._end)
            self._slots = asyncio.Semaphore(self._calls.concurrency)  # a loop's own, as all that waits
            self._start = asyncio.Lock()
        return self._loop.run(self._all(requests))

    def close(self) -> None:
        """Ends connections and the thread. A later ``generate`` opens new ones."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    async def _all(self, requests: list[Request]) -> list[Answer]:
        work = _Work()
        tasks = [asyncio.create_task(self._answer(request, work)) for request in requests]
        try:
            error = await _first_error(tasks)
            if isinstance(error, Fatal):
                work.stopped = True
                for task in set(tasks) - work.calling:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                return _kept(tasks, error)
            if error is not None:
                raise error
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, request: Request, work: "_Work") -> Answer:
        calls = self._calls
        async with self._slots:
            deadline = _now() + calls.total_timeout_sec
            guess = 0 if calls.pace is None else self._guess(request)
            read: int | None = None
            written: int | None = None
            tried = 0
            while True:
                tried += 1
                try:
                    deadline += await self._begin(guess)
                except OutOfBudget as error:  # others are under way, and paid for
                    return Answer(None, Failure(TRANSIENT, NOT_ASKED, str(error)), None, read, written)
                with work.call():
                    reply = await self._call(request, min(calls.timeout_sec, deadline - _now()), guess)
                read, written = _sum(read, reply.answer.tokens_in), _sum(written, reply.answer.tokens_out)
                answer = replace(reply.answer, tokens_in=read, tokens_out=written)
                failure = answer.failure
                if failure is None or failure.kind != TRANSIENT:
                    self._lost, self._heard_at = 0, time.monotonic()
                    return answer
                asked = reply.retry_after_sec or 0.0
                wait = asked + random.uniform(0, min(calls.backoff_sec * 2 ** (tried - 1), calls.max_wait_sec))
                if calls.pace is None and asked <= calls.max_wait_sec:
                    self._resume_at = max(self._resume_at, _now() + asked)
                if tried == calls.tries or asked > calls.max_wait_sec or _now() + wait >= deadline or work.stopped:
                    self._count_lost(failure)
                    return replace(answer, failure=replace(failure, detail=f"{failure.detail} (tries: {tried})"))
                await asyncio.sleep(wait)

    def _count_lost(self, failure: Failure) -> None:
        self._lost += 1
        now = time.monotonic()
        since = self._heard_at = now if self._heard_at is None else self._heard_at
        if self._lost >= self._calls.concurrency and now - since >= self._calls.give_up_sec:
            raise Fatal(
                f"the service has answered none of the last {self._lost:,} requests, for {(now - since) / 60:.0f} "
                f"minutes: {failure.reason}, {failure.detail}. What was answered is kept: run again when it is well"
            )

    async def _begin(self, guess: int) -> float:
        """Seconds that a request had to wait until the pace let it begin, or the service wanted to be asked again."""
        start = _now()
        if self._calls.pace is not None:
            read = math.ceil(guess * self._guessed_low)
            await self._calls.pace.begin(read + self._most_written)
        while (wait := self._resume_at - _now()) > 0:
            await asyncio.sleep(wait + random.uniform(0, self._calls.backoff_sec))  # not all at once
        return _now() - start

    async def _in_turn(self) -> None:
        """Lets calls start one after the other, each when the one before it had time to be sent.

        Answers that come in together would otherwise have their successors written together and sent together, last of
        all, and so come in together again: of 64 in flight all would wait for the slowest.
        """
        async with self._start:
            for _ in range(TURNS_APART):
                await asyncio.sleep(0)

    async def _call(self, request: Request, limit_sec: float, guess: int) -> Reply:
        """One call that the pace let begin, and that it is told the end of, whatever that is."""
        reply = cut_off(Failure(TRANSIENT, "cut_off", "the job stopped"))
        try:
            async with asyncio.timeout(limit_sec):
                await self._in_turn()
                reply = await self._ask(request)
        except TimeoutError:
            reply = cut_off(Failure(TRANSIENT, "timeout", f"no answer within {limit_sec:.3g} s"))
        finally:
            read, written = reply.answer.tokens_in, reply.answer.tokens_out
            if self._calls.pace is not None:
                self._guessed_low = max(self._guessed_low, (read or 0) / max(1, guess))
                cost = (0, 0) if reply.free and read is None else (read, written)
                await self._calls.pace.end(Outcome(reply.limited, reply.retry_after_sec, *cost))
        return reply


class _Work:
    """Requests that came in together.

    Attributes:
        calling: tasks whose call is out.
        stopped: something has stopped the job, so that no call is made any more.
    """

    def __init__(self) -> None:
        self.calling: set[asyncio.Task[Any]] = set()
        self.stopped = False

    @contextmanager
    def call(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self.calling.add(task)
        try:
            yield
        finally:
            self.calling.discard(task)


async def _first_error(tasks: Sequence["asyncio.Task[Answer]"]) -> BaseException | None:
    """As soon as there is one; None when all have ended without."""
    if tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    return next((error for task in tasks if task.done() and (error := task.exception()) is not None), None)


def _kept(tasks: Sequence["asyncio.Task[Answer]"], stopped: Fatal) -> list[Answer]:
    """What was answered until the job stopped, and the reason for the others; raises it where nothing was."""
    unasked = Answer(failure=Failure(TRANSIENT, NOT_ASKED, str(stopped)))
    answers = [unasked if task.cancelled() or task.exception() is not None else task.result() for task in tasks]
    if all(answer.failure is not None and answer.failure.reason == NOT_ASKED for answer in answers):
        raise stopped
    return answers


def by_answer(status: int, message: str) -> Failure:
    """The failure that an HTTP status other than 2xx stands for, with the service's own words."""
    kind = TRANSIENT if status in PASSING_STATUS else by_status(status).kind
    return Failure(kind, f"http_{status}", message[:LONGEST_DETAIL] or f"the service answered {status}")


def by_error(error: Exception) -> Reply:
    """What an error of the connection stands for, see ``fetch.connection``: all of them pass, but for a certificate.

    Its reason is connect_failed, connect_timeout, tls_failed, dns_failed, no_such_host, timeout, stalled,
    incomplete_body, malformed_answer (no HTTP) or disconnected.

    Raises:
        Fatal: the service shows a certificate that is not its own.
    """
    reason, detail = reason_of(error), f"{type(error).__name__}: {error}"[:LONGEST_DETAIL]
    if reason == "bad_certificate":
        raise Fatal(f"the service cannot prove who it is, so nothing was sent: {error}") from error
    if reason == "bad_response":
        return Reply(malformed(detail))
    failure = Failure(TRANSIENT, reason, detail)
    return refused(failure) if reason in BEFORE_SENDING else cut_off(failure)


def malformed(detail: str, tokens_in: int | None = None, tokens_out: int | None = None) -> Answer:
    """For an answer that breaks its own protocol: the next may not."""
    failure = Failure(TRANSIENT, "malformed_answer", detail[:LONGEST_DETAIL])
    return Answer(failure=failure, tokens_in=tokens_in, tokens_out=tokens_out)


def whole(number: object) -> int | None:
    """A count that a service gave, or None where it is none."""
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def picture(image: bytes) -> tuple[str, bytes]:
    """MIME type and bytes as a service is sent them: upright, as JPEG, PNG or WebP, which all of them read.

    An image that is so already goes out as it came, and only its first bytes are looked at: whether the rest of it can
    be read is for the service to say. All others are drawn anew. Services differ in whether they heed EXIF's
    orientation, and some ask for upright images in so many words.

    Raises:
        BadImage: the bytes are no image, or one that has to be drawn anew and cannot be read.
    """
    if image[:3] == b"\xff\xd8\xff":
        return ("image/jpeg", encode_jpeg(decode(image), 95) if _lies(image, b"Exif\0\0", "JPEG") else image)
    if image[:8] == b"\x89PNG\r\n\x1a\n" and not _lies(image, b"eXIf", "PNG"):
        return "image/png", image
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP" and not _lies(image, b"EXIF", "WEBP"):
        return "image/webp", image
    drawn = io.BytesIO()
    Image.fromarray(decode(image)).save(drawn, "PNG")
    return "image/png", drawn.getvalue()


def _lies(image: bytes, mark: bytes, form: str) -> bool:
    """Whether EXIF says that the stored picture is not upright. Metadata that cannot be read says nothing."""
    if mark not in image:
        return False
    try:
        return Image.open(io.BytesIO(image), formats=[form]).getexif().get(ORIENTATION_TAG, 1) in UPRIGHT
    except Exception:  # decoders raise nearly any type on broken bytes
        return False


def no_image() -> Failure:
    return Failure(BAD_INPUT, "no_image", "the request holds no image")


class _LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self, end: Callable[[], Awaitable[None]]) -> None:
        self._end = end
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="online", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # for backends that nobody closes

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        atexit.unregister(self.close)
        self.run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _sum(so_far: int | None, more: int | None) -> int | None:
    return more if so_far is None else so_far + (more or 0)
