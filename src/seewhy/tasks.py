"""map_tasks: a function of many items and one thing that they share, for what needs the whole table at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from seewhy.failure import Fatal
from seewhy.memory import keep_freed_memory
from seewhy.ray_cluster import check_room

_Item = TypeVar("_Item")
_Shared = TypeVar("_Shared")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Held(Generic[_Shared]):
    """Something that several calls of map_tasks share; made by `hold`.

    Attributes:
        value: this process's own.
        reference: of the copy on the cluster, which lasts as long as this object; None without a cluster.
    """

    value: _Shared
    reference: Any


def hold(value: _Shared, *, here: bool = False) -> Held[_Shared]:
    """Puts it on the cluster once; `here` as in `map_tasks`."""
    import ray

    return Held(value, None if here or not ray.is_initialized() else ray.put(value))


def map_tasks(
    function: Callable[[_Item, _Shared], _Result],
    items: Iterable[_Item],
    *,
    shared: _Shared | Held[_Shared],
    num_cpus: float = 1.0,
    at_most: int | None = None,
    here: bool = False,
) -> Iterator[_Result]:
    """``function(item, shared)`` of each item, in the order of the items, on the cluster's CPUs.

    Of `shared` there is one copy a node, whose arrays the tasks read in place and cannot write to. Items are taken, and
    results held, a few at a time, so that neither their number nor the results' size is limited by memory. A task whose
    worker died is run again.

    Args:
        function: of a module, so that workers find it; the same arguments must always give the same result.
        shared: or what `hold` made of it, where several calls share it.
        num_cpus: what each task reserves.
        at_most: tasks under way at once, finished ones whose turn has not come among them. None: two a free place.
        here: in this process, one after the other, as where this process has joined no cluster.

    Raises:
        Fatal: what a task raised so, or no node can hold one. Any other exception comes as itself.
    """
    import ray

    held = shared if isinstance(shared, Held) else hold(shared, here=here)
    if held.reference is None:
        for item in items:
            yield function(item, held.value)
        return
    check_room(num_cpus=num_cpus)
    task = ray.remote(num_cpus=num_cpus)(_run_task)
    coming = iter(items)
    pending: deque[Any] = deque()
    try:
        while True:
            room = at_most or 2 * max(1, int(ray.cluster_resources().get("CPU", 1) / num_cpus))
            for item in islice(coming, max(0, room - len(pending))):
                pending.append(task.remote(function, item, held.reference))
            if not pending:
                return
            result, fatal = ray.get(pending.popleft())
            if fatal is not None:
                raise Fatal(fatal)
            yield result
    finally:
        for reference in pending:
            ray.cancel(reference)


def _run_task(function: Callable[[Any, Any], Any], item: Any, shared: Any) -> tuple[Any, str | None]:
    """Fatal travels as a value: Ray would wrap the exception."""
    keep_freed_memory()
    try:
        return function(item, shared), None
    except Fatal as error:
        return None, str(error)
