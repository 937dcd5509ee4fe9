"""One Ray cluster for the whole test session, started by the first test that asks for it."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


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
