"""One Ray cluster for the whole test session, started by the first test that asks for it."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that of several processes none is left alone with a long file at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """gs:// URL of a bucket in this process, which gcsfs finds here and in processes that are started from now on."""
    from tests.gcs_emulator import emulated

    with emulated("seewhy") as url:
        yield url


@pytest.fixture(scope="session")
def ray_cluster(bucket: str) -> Iterator[None]:
    """Four logical CPUs whatever the machine has, so that a driver's actors and tasks never wait for one another.

    Its workers take their environment from here, so the bucket's address must be in it by now.
    """
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=300_000_000,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_desk_is_left() -> Iterator[None]:
    """A desk outlives its driver by a quarter of an hour, at some 150 MB."""
    yield
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    from seewhy.quota import NAMESPACE

    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE:
            with suppress(ValueError):  # it has ended by itself
                ray.kill(ray.get_actor(actor["name"], namespace=NAMESPACE))
