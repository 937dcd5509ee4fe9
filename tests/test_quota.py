"""The cluster's desk on a real Ray cluster: callers that share it, a desk that is killed, money that runs out.

How near it comes to a limit that nobody told it is a figure, not a law: see benchmarks/quota.py.
"""

import asyncio
import json
import pickle
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from seewhy.failure import Fatal
from seewhy.prices import Price
from seewhy.quota import NAMESPACE, Ledger, Quota, SharedPurse, desk_name
from seewhy.quota.desk import Desk, Terms
from seewhy.quota.ledger import spent_at_most_usd
from seewhy.rates import Ask
from seewhy.vlm.pace import Outcome, OutOfBudget
from tests.limited_service import Worker, serving


@contextmanager
def desk(name: str) -> Iterator[None]:
    """Ends the desk of that name, which would otherwise outlive the test."""
    import ray

    try:
        yield
    finally:
        with suppress(ValueError):
            ray.kill(ray.get_actor(desk_name(name), namespace=NAMESPACE))


def state_of(name: str) -> dict:
    import ray

    return ray.get(ray.get_actor(desk_name(name), namespace=NAMESPACE).state.remote())


@pytest.mark.ray
@pytest.mark.parametrize("no_restart", [False, True], ids=["restarted", "gone"])
def test_a_desk_that_dies_loses_and_doubles_no_call(ray_cluster: None, no_restart: bool) -> None:
    """4 workers with 75 calls each; the desk is killed after a third. All are made, and made once."""
    import ray

    name = f"killed-{no_restart}"
    quota = Quota(name=name, service="s", requests_per_window=6000)
    with serving() as (service, port), desk(name):
        crew = [ray.remote(num_cpus=0.1)(Worker).remote(f"w{i}", quota, port) for i in range(4)]
        results = [one.work.remote(75, 6, 300.0) for one in crew]
        deadline = time.monotonic() + 120
        while len(service.seen) < 100:
            assert time.monotonic() < deadline, ray.wait(results, timeout=0)
            time.sleep(0.02)
        ray.kill(ray.get_actor(desk_name(name), namespace=NAMESPACE), no_restart=no_restart)
        done = [calls for one in ray.get(results, timeout=240) for calls in one.items()]
        for one in crew:
            ray.kill(one)
    assert sorted(done) == sorted((f"/w{i}/{k}", 1) for i in range(4) for k in range(75))
    assert Counter(path for _, path, _ in service.seen) == dict(done)


def spend(quota: Quota, lanes: int = 4) -> tuple[int, str]:
    """Calls that could be made until the money was out, of 60 tokens read and 40 written each; and the refusal."""

    async def lane() -> tuple[int, str]:
        count = 0
        while True:
            try:
                await quota.begin(100)
            except OutOfBudget as error:
                return count, str(error)
            await quota.end(Outcome(False, None, 60, 40))
            count += 1

    async def all_lanes() -> tuple[int, str]:
        found = await asyncio.gather(*(lane() for _ in range(lanes)))
        return sum(count for count, _ in found), found[0][1]

    return asyncio.run(all_lanes())


@pytest.mark.ray
def test_the_budget_holds_for_all_and_is_taken_up_again(ray_cluster: None, tmp_path: Path) -> None:
    """A call costs 60 x 10 + 40 x 100 = 4,600 millionths, at most 100 x 100; of 0.10 USD, 19 make 0.0874."""
    ledger = str(tmp_path / "spent.json")
    options = {"service": "s", "price": Price(10.0, 100.0), "ledger": ledger, "requests_per_window": 6000}
    with desk("money"):
        quota = Quota(name="money", budget_usd=0.1, **options)  # type: ignore[arg-type]
        count, why = spend(quota)
        # 0.1 - 19 x 0.0046 = 0.0126 has room for one more that may cost 0.01, and what is left then has not
        assert count == 20
        assert why.startswith("the budget is used up: 0.092 USD of 0.10 USD spent")
        again = pickle.loads(pickle.dumps(quota))
        assert spend(again)[0] == 0
        raised = Quota(name="money", budget_usd=0.2, **options)  # type: ignore[arg-type]
        assert spend(raised)[0] == 22  # 0.2 - 0.092 = 0.108; 22 x 0.0046 = 0.1012 leaves less than 0.01
        assert raised.settle() == pytest.approx(42 * 0.0046)
        assert json.loads(Path(ledger).read_text())["at_most_usd"] == pytest.approx(42 * 0.0046)
    with desk("money-later"):  # another desk, another day
        later = Quota(name="money-later", budget_usd=0.2, **options)  # type: ignore[arg-type]
        assert spend(later)[0] == 0


@pytest.mark.ray
def test_services_have_limits_of_their_own_and_one_budget(ray_cluster: None, tmp_path: Path) -> None:
    """Two models at 10 and 20 USD a million tokens written, of 0.01 USD: 100 tokens of each cost 0.001 and 0.002."""
    ledger = str(tmp_path / "spent.json")

    async def once(quota: Quota) -> None:
        await quota.begin(100)
        await quota.end(Outcome(False, None, 0, 100))

    with desk("two"):
        cheap = Quota(name="two", service="a", budget_usd=0.01, price=Price(0.0, 10.0), ledger=ledger)
        dear = Quota(name="two", service="b", budget_usd=0.01, price=Price(0.0, 20.0), ledger=ledger)
        for quota in (cheap, dear, dear, dear, cheap, cheap):  # 0.003 + 0.006
            asyncio.run(once(quota))
        with pytest.raises(OutOfBudget, match=r"up to 0\.002 USD"):
            asyncio.run(once(dear))
        asyncio.run(once(cheap))  # the last thousandth
        with pytest.raises(OutOfBudget):
            asyncio.run(once(cheap))
        assert state_of("two")["spent_usd"] == pytest.approx(0.01)
        assert state_of("two")["costs_usd"] == pytest.approx({"earlier runs": 0.0, "a": 0.004, "b": 0.006})
        assert set(state_of("two")["services"]) == {"a", "b"}


@pytest.mark.ray
def test_what_was_spent_before_there_was_a_budget_counts(ray_cluster: None, tmp_path: Path) -> None:
    ledger = str(tmp_path / "spent.json")
    options = {"name": "later", "service": "a", "price": Price(0.0, 10.0), "ledger": ledger}

    async def once(quota: Quota) -> None:
        await quota.begin(100)
        await quota.end(Outcome(False, None, 0, 100))

    with desk("later"):
        for _ in range(3):
            asyncio.run(once(Quota(**options)))  # type: ignore[arg-type]
        with pytest.raises(OutOfBudget, match=r"0\.003 USD of 0\.0035 USD spent"):
            asyncio.run(once(Quota(budget_usd=0.0035, **options)))  # type: ignore[arg-type]


@pytest.mark.ray
def test_jobs_and_calls_are_paid_from_one_budget(ray_cluster: None, tmp_path: Path) -> None:
    """Of 0.01 USD a job sets aside 0.007: two calls of 0.001 fit beside it, and none more until it cost 0.002."""
    url = str(tmp_path / "spent.json")
    purse = SharedPurse(name="both", service="batch", ledger=url, budget_usd=0.01)

    async def call() -> None:
        quota = Quota(name="both", service="a", budget_usd=0.01, price=Price(0.0, 10.0), ledger=url)
        await quota.begin(100)
        await quota.end(Outcome(False, None, 0, 100))

    with desk("both"):
        assert purse.set_aside("job", 0.007) is None
        assert purse.set_aside("job", 0.007) is None  # asking twice is asking once
        assert spent_at_most_usd(url) >= 0.007
        asyncio.run(call())
        asyncio.run(call())
        refusal = purse.set_aside("another", 0.002)
        assert refusal is not None
        assert "0.002 USD of 0.01 USD spent" in refusal
        purse.settle("job", 0.002)
        assert state_of("both")["spent_usd"] == pytest.approx(0.004)
        assert spent_at_most_usd(url) == pytest.approx(0.004)


@pytest.mark.ray
def test_a_job_outlives_the_desk_that_set_its_money_aside(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    url = str(tmp_path / "spent.json")
    purse = SharedPurse(name="long", service="batch", ledger=url, budget_usd=0.01)
    with desk("long"):
        assert purse.set_aside("job", 0.007) is None
        ray.kill(ray.get_actor(desk_name("long"), namespace=NAMESPACE))
        assert purse.set_aside("another", 0.005) is not None  # what may have been spent counts as spent
        purse.recall("job", 0.007)
        purse.settle("job", 0.002)
        assert spent_at_most_usd(url) == pytest.approx(0.002 + 0.0001)  # and the hundredth by which it was ahead
        assert purse.set_aside("another", 0.005) is None


@pytest.mark.ray
def test_a_begin_that_is_cancelled_gives_its_place_back(ray_cluster: None) -> None:
    async def go() -> None:
        quota = Quota(name="cancelled", service="s", requests_per_window=1, window_sec=600.0)
        await quota.begin(1)
        waiting = asyncio.create_task(quota.begin(1))
        while state_of("cancelled")["services"]["s"]["waiting"] == 0:
            await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await quota.end(Outcome(False, None, 1, 1))
        with pytest.raises(ValueError, match="end without a begin"):
            await quota.end(Outcome(False, None, 1, 1))

    with desk("cancelled"):
        asyncio.run(asyncio.wait_for(go(), 60))
        state = state_of("cancelled")["services"]["s"]
        assert (state["waiting"], state["in_flight"]) == (0, 0)


def turns(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """What each of them comes to, one after the other in one loop."""

    async def all_of_them() -> list[Any]:
        return [await one for one in works]

    return asyncio.run(all_of_them())


def test_a_write_that_lands_late_is_not_believed(tmp_path: Path) -> None:
    """10 USD are written, then 50, and then the 10 land once more; what another writes is heard as before."""
    url = str(tmp_path / "spent.json")
    mine = Ledger(url)
    mine.cover(10.0, 100.0)
    early = Path(url).read_bytes()
    mine.cover(50.0, 100.0)
    Path(url).write_bytes(early)
    assert mine.heard_usd() == 0.0
    assert mine.at_most_usd == spent_at_most_usd(url) == 51.0
    Ledger(url).settle(53.0)
    assert mine.heard_usd() == 2.0


def test_a_ledger_that_cannot_be_written_stops_calls_and_costs_nothing_and_may_heal(tmp_path: Path) -> None:
    """The desk by itself: a caller's call and a job want to start while the ledger's folder is a file, and again."""
    url = str(tmp_path / "ledger" / "spent.json")
    terms = Terms("s", requests=6000, budget_usd=1.0, ledger=url)
    there = Desk()

    async def go() -> None:
        await there.introduce("w", terms, None, [])
        (tmp_path / "ledger").write_text("")
        reply = await there.turn("w", 1, [Ask("a", 1, 0.4)], [], [])
        assert reply is not None
        assert reply.go == ()
        assert reply.fatal is not None
        assert "spent.json of what was spent cannot be written" in reply.fatal
        refusal = await there.set_aside(url, 1.0, "job", 0.4)
        assert refusal is not None
        assert "cannot be written" in refusal
        assert there._in_flight == 0
        (tmp_path / "ledger").unlink()
        reply = await there.turn("w", 2, [Ask("b", 1, 0.4)], [], [])
        assert reply is not None
        assert (reply.go, reply.fatal) == (("b",), None)
        assert await there.set_aside(url, 1.0, "job", 0.6) is None
        assert spent_at_most_usd(url) == pytest.approx(1.0)

    asyncio.run(go())


@pytest.mark.ray
def test_a_ledger_that_cannot_be_read_stops_the_job(ray_cluster: None, tmp_path: Path) -> None:
    """Somebody has put it right by hand, and left out a comma."""
    url = tmp_path / "spent.json"
    url.write_text('{"at_most_usd": 1.0 "as_of": "today"}')
    with pytest.raises(Fatal, match=r"spent\.json.* is no ledger"):
        spent_at_most_usd(str(url))
    quota = Quota(name="illegible", service="s", price=Price(1.0, 1.0), ledger=str(url))
    with pytest.raises(Fatal, match=r"spent\.json.* is no ledger"):
        asyncio.run(asyncio.wait_for(quota.begin(1), 120))
    with pytest.raises(Fatal, match=r"spent\.json.* is no ledger"):
        SharedPurse(name="illegible", service="batch", ledger=str(url)).set_aside("job", 1.0)


def test_two_clusters_on_one_workspace_share_its_budget(tmp_path: Path) -> None:
    """Each has a desk of its own, and the ledger is all that they share; of 1 USD jobs cost 0.3, 0.4 and then 0.5."""
    url = str(tmp_path / "spent.json")
    one, other = Desk(), Desk()
    first, second, refusal, *_ = turns(
        one.set_aside(url, 1.0, "a", 0.3),
        other.set_aside(url, 1.0, "b", 0.4),
        one.set_aside(url, 1.0, "c", 0.5),
        one.pay("a", 0.2, "s"),
        one.settle(),
        other.pay("b", 0.1, "s"),
        other.settle(),
    )
    assert (first, second) == (None, None)
    assert refusal is not None
    assert "0.41 USD of 1.00 USD spent, 0.30 USD set aside" in refusal  # what the other has written, a step ahead
    assert spent_at_most_usd(url) == pytest.approx(0.3)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("outcome", "cost_usd"),
    [
        (Outcome(False, None, 60, 40), 60 * 1e-5 + 40 * 1e-4),
        (Outcome(False, None, 60, None), 100 * 1e-4),  # what it wrote nobody knows: all that was set aside
        (Outcome(False, None, None, 40), 100 * 1e-4),
        (Outcome(False, None, None, None), 100 * 1e-4),
        (Outcome(True, 1.0, None, None), 0.0),
    ],
)
def test_what_is_not_known_counts_as_what_was_set_aside(
    ray_cluster: None, tmp_path: Path, outcome: Outcome, cost_usd: float
) -> None:
    quota = Quota(name="half", service="s", price=Price(10.0, 100.0), ledger=str(tmp_path / "spent.json"))

    async def once() -> None:
        await quota.begin(100)
        await quota.end(outcome)

    asyncio.run(once())
    assert quota.settle() == pytest.approx(cost_usd)


def test_without_a_cluster_it_says_so() -> None:
    import ray

    if ray.is_initialized():
        pytest.skip("this process has joined a cluster")
    with pytest.raises(Fatal, match="a quota needs a Ray cluster"):
        asyncio.run(Quota(name="x", service="s").begin(1))


def test_a_ledger_never_says_less_than_was_spent(tmp_path: Path) -> None:
    url = str(tmp_path / "spent.json")
    ledger = Ledger(url)
    ledger.cover(0.5, cap_usd=10.0)
    assert Ledger(url).at_most_usd == pytest.approx(0.6)  # a hundredth of the cap ahead
    ledger.cover(0.55, cap_usd=10.0)
    assert ledger.at_most_usd == pytest.approx(0.6)
    ledger.cover(9.99, cap_usd=10.0)
    assert ledger.at_most_usd == 10.0
    ledger.settle(7.0)
    assert Ledger(url).at_most_usd == 7.0
    ledger.cover(7.5, cap_usd=float("inf"))
    assert ledger.at_most_usd == 8.5


def test_a_budget_needs_a_price_and_a_ledger(tmp_path: Path) -> None:
    for options in ({"price": Price(1.0, 1.0)}, {"ledger": str(tmp_path / "x")}):
        with pytest.raises(ValueError, match="needs the price of a token and a ledger file"):
            Quota(name="x", service="s", budget_usd=1.0, **options)  # type: ignore[arg-type]


def test_a_limit_out_of_range_is_found_at_once() -> None:
    with pytest.raises(ValueError, match=r"requests 0\.5 a window is below 1"):
        Quota(name="x", service="s", requests_per_window=0.5)
