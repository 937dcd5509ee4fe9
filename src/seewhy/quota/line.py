"""A process's connection to the desk."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any

from seewhy.failure import Fatal
from seewhy.quota.desk import LISTEN_SEC, End, Reply, Terms, find_desk
from seewhy.rates import Ask

_GATHER_SEC = 0.005
"""How long a worker waits for more to say before it speaks."""
_LOST_SEC = 30.0
"""Beyond the time that the desk may take: a message without an answer is taken for lost, and said again."""
_AGAIN_SEC = 0.2


class Line:
    """On a thread of its own: event loops of callers come and go.

    All state is touched by that thread alone.
    """

    def __init__(self, name: str, terms: Terms) -> None:
        self._name, self._terms = name, terms
        self._caller = uuid.uuid4().hex
        self._desk: Any = None
        self._number = 0
        self._asks: dict[str, tuple[Ask, Future[str | None]]] = {}
        self._ends: dict[str, tuple[End, Future[None]]] = {}
        self._withdrawn: set[str] = set()
        self._started: dict[str, tuple[Ask, float]] = {}  # by time: let go within the last window, or still open
        self._under_way: set[str] = set()
        self._allowance: float | None = None
        self._replies: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        Thread(target=self._run, name="seewhy-quota", daemon=True).start()

    def ask(self, ask: Ask) -> "Future[str | None]":
        """Comes to None when the call may start, else to why it never may."""
        future: Future[str | None] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled: withdraw says so to the desk as well
        self._soon(self._asks.__setitem__, ask.id, (ask, future))
        return future

    def end(self, end: End) -> "Future[None]":
        """Comes to None when the desk has heard."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        self._soon(self._ended, end, future)
        return future

    def withdraw(self, call: str) -> None:
        self._soon(self._withdraw, call)

    def _soon(self, action: Any, *args: Any) -> None:
        def act() -> None:
            action(*args)
            self._news.set()

        self._loop.call_soon_threadsafe(act)

    def _ended(self, end: End, future: "Future[None]") -> None:
        self._under_way.discard(end.call)
        self._ends[end.call] = (end, future)

    def _withdraw(self, call: str) -> None:
        self._asks.pop(call, None)
        self._started.pop(call, None)
        self._under_way.discard(call)
        self._withdrawn.add(call)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._speak())

    async def _speak(self) -> None:
        while True:
            if not (self._asks or self._ends or self._withdrawn):
                await self._news.wait()
            await asyncio.sleep(_GATHER_SEC)
            self._news.clear()
            reply = asyncio.create_task(self._turn())
            self._replies.add(reply)
            reply.add_done_callback(self._replies.discard)
            news = asyncio.create_task(self._news.wait())
            # An older turn that is still on the line is let go by the desk as soon as it hears a newer one.
            await asyncio.wait([reply, news], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()

    async def _turn(self) -> None:
        from ray.exceptions import RayActorError, RayTaskError

        self._number += 1
        asks = [ask for ask, _ in self._asks.values()]
        ends = [end for end, _ in self._ends.values()]
        withdrawn = list(self._withdrawn)
        try:
            desk = self._found()
            sent = desk.turn.remote(self._caller, self._number, asks, ends, withdrawn)
            reply: Reply | None = await asyncio.wait_for(sent, LISTEN_SEC + _LOST_SEC)
            if reply is None:  # a desk that has never heard of this caller
                past = self._past()
                await asyncio.wait_for(
                    desk.introduce.remote(self._caller, self._terms, self._allowance, past), _LOST_SEC
                )
                return
        except RayTaskError as error:  # not a lost desk but a fault: those who wait must hear of it
            self._fail(error.cause if isinstance(error.cause, Fatal) else _desk_failed(error.cause))
            return
        except (RayActorError, TimeoutError, ValueError):  # ValueError: its name is free, or about to be
            self._desk = None
            await asyncio.sleep(_AGAIN_SEC)
            return
        except Exception as error:
            self._fail(error if isinstance(error, Fatal) else _desk_failed(error))
            return
        if reply.fatal is not None:
            self._fail(Fatal(reply.fatal))
            return
        self._heard(reply, ends, withdrawn)

    def _heard(self, reply: Reply, ends: Sequence[End], withdrawn: Sequence[str]) -> None:
        self._withdrawn.difference_update(withdrawn)
        for end in ends:
            if (told := self._ends.pop(end.call, None)) is not None:
                told[1].set_result(None)
        if reply.allowance is not None:
            self._allowance = reply.allowance
        now = time.monotonic()
        for call in reply.go:
            if (waiting := self._asks.pop(call, None)) is not None:
                self._started[call] = (waiting[0], now)
                self._under_way.add(call)
                waiting[1].set_result(None)
        for call, why in reply.refused.items():
            if (waiting := self._asks.pop(call, None)) is not None:
                waiting[1].set_result(why)
        self._trim(now)

    def _fail(self, error: Exception) -> None:
        for _, waiting in self._asks.values():
            waiting.set_exception(error)
        for _, told in self._ends.values():
            told.set_result(None)
        self._asks.clear()
        self._ends.clear()
        self._withdrawn.clear()

    def _trim(self, now: float) -> None:
        """Forgets calls that are out of the window and over."""
        while self._started:
            call, (_, at) = next(iter(self._started.items()))
            if now - at < self._terms.window_sec * 1.1:
                return
            if call in self._under_way and now - at < self._terms.lease_sec:
                return
            del self._started[call]
            self._under_way.discard(call)

    def _past(self) -> list[tuple[Ask, float, bool]]:
        now = time.monotonic()
        return [(ask, now - at, call in self._under_way) for call, (ask, at) in self._started.items()]

    def _found(self) -> Any:
        if self._desk is None:
            self._desk = find_desk(self._name)
        return self._desk


def _desk_failed(error: object) -> Fatal:
    return Fatal(f"the desk that keeps the quota failed: {error}")
