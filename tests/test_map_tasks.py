"""map_tasks: the same results in the same order with and without a cluster, over one copy of what is shared."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from seewhy.failure import Fatal
from seewhy.tasks import hold, map_tasks


def scaled(item: int, shared: np.ndarray) -> float:
    time.sleep(0.02 * (item % 3))  # they do not end in the order in which they began
    return float(shared[item] * 10)


def place(item: int, shared: np.ndarray) -> tuple[int, bool]:
    return os.getpid(), shared.flags.writeable


def refuses(item: int, shared: str) -> int:
    if item == 3:
        raise Fatal(f"no {shared}: choose another")
    if item == 5:
        raise ValueError("item is 5")
    return item


def counted(items: range, seen: list[int]) -> Iterator[int]:
    for item in items:
        seen.append(item)
        yield item


@pytest.mark.ray
@pytest.mark.parametrize("at_most", [None, 1, 3])
def test_results_come_in_the_order_of_the_items(ray_cluster: None, at_most: int | None) -> None:
    numbers = np.arange(20.0)
    found = list(map_tasks(scaled, range(20), shared=numbers, num_cpus=0.5, at_most=at_most))
    assert found == [10.0 * i for i in range(20)]
    assert found == list(map_tasks(scaled, range(20), shared=numbers, here=True))
    assert list(map_tasks(scaled, [], shared=numbers)) == []


@pytest.mark.ray
def test_work_is_done_elsewhere_over_memory_that_is_shared(ray_cluster: None) -> None:
    big = np.zeros(300_000)
    found = set(map_tasks(place, range(12), shared=big, num_cpus=0.5))
    assert os.getpid() not in {process for process, _ in found}
    assert not any(writeable for _, writeable in found)  # a view of the object store; a copy could be written to
    assert list(map_tasks(place, [0], shared=big, here=True)) == [(os.getpid(), True)]


@pytest.mark.ray
def test_what_is_held_is_put_on_the_cluster_once(ray_cluster: None) -> None:
    held = hold(np.arange(20.0))
    for start in (0, 10):
        items = range(start, start + 10)
        assert list(map_tasks(scaled, items, shared=held, num_cpus=0.5)) == [10.0 * i for i in items]
    assert hold(held.value, here=True).reference is None
    assert list(map_tasks(scaled, [3], shared=hold(held.value, here=True))) == [30.0]


@pytest.mark.ray
def test_items_are_taken_and_results_held_a_few_at_a_time(ray_cluster: None) -> None:
    seen: list[int] = []
    results = map_tasks(scaled, counted(range(50), seen), shared=np.arange(50.0), at_most=4)
    assert seen == []
    for done in range(1, 11):
        next(results)
        assert len(seen) == done + 3
    results.close()
    assert len(seen) == 13


@pytest.mark.ray
@pytest.mark.parametrize("here", [False, True])
def test_what_a_task_raises_comes_through(ray_cluster: None, here: bool) -> None:
    results = map_tasks(refuses, range(8), shared="such model", here=here)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Fatal, match=r"^no such model: choose another$"):
        next(results)
    with pytest.raises(ValueError, match="item is 5"):
        list(map_tasks(refuses, [4, 5, 6], shared="x", here=here))


@pytest.mark.ray
def test_a_task_no_node_can_hold_is_refused(ray_cluster: None) -> None:
    with pytest.raises(Fatal, match="1000 CPU"):
        list(map_tasks(scaled, [1], shared=np.arange(2.0), num_cpus=1000))
