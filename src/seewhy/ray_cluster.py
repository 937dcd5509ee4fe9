"""The Ray cluster that this process has joined: joining it, and whether it has room for a worker."""

import logging
import os
from typing import Any

from seewhy.failure import Fatal


def connect(*, num_cpus: int | None = None, object_store_bytes: int = 500_000_000) -> None:
    """Joins the cluster that RAY_ADDRESS names (as inside `ray job submit`), or starts one in this process, which ends
    with it. Does nothing where this process has a cluster already.

    Args:
        num_cpus: CPUs of a cluster started here; all of the machine's by default. Ignored when joining one.
        object_store_bytes: shared memory of a cluster started here; only keys, counts and training texts go through it.
    """
    import ray
    import ray.data  # sets up its loggers, which are quietened below

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name in ("ray.data", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        if "RAY_AUTH_MODE" not in os.environ:  # which Ray sets where it finds a token
            logging.getLogger("seewhy").warning(
                "this Ray cluster asks nobody for a token: whoever reaches its ports can run code on it. See "
                "`ray get-auth-token --generate`, or say that it is meant so: RAY_AUTH_MODE=disabled"
            )
    else:
        # Ray Data's actors set off an error line of the core worker's each, about restarts that are never needed here.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(
            address="local", num_cpus=num_cpus, object_store_memory=object_store_bytes, include_dashboard=False, **quiet
        )


def check_room(
    *, num_cpus: float = 0.0, num_gpus: float = 0.0, memory: int = 0, accelerator_type: str | None = None
) -> None:
    """Raises Fatal where no node of the cluster could hold such a worker, which would otherwise wait for ever.

    With SEEWHY_AUTOSCALES set nothing is checked: a node that can may still come.
    """
    import ray

    if os.environ.get("SEEWHY_AUTOSCALES"):
        return
    wanted = {"CPU": num_cpus, "GPU": num_gpus, "memory": float(memory)}
    if accelerator_type:
        wanted[f"accelerator_type:{accelerator_type}"] = 0.001
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
    have = "; ".join(", ".join(f"{node.get(name, 0.0):g} {name}" for name in wanted) for node in nodes)
    raise Fatal(f"no node can hold a worker that asks for {asked}; the nodes have {have}")
