"""A job that spends 0.003 USD at one service and 0.002 at another, and says so: for test_entrypoint.py.

python -m tests.cluster.spending_job LEDGER
"""

import asyncio
import sys

from seewhy import logs
from seewhy.prices import Price
from seewhy.progress import Reporter
from seewhy.quota import Quota
from seewhy.ray_cluster import connect
from seewhy.vlm.pace import Outcome

CALLS = {"openai m http://h/v1": 3, "gemini n p": 2}
"""Service -> calls, of 100 tokens written at 10 USD a million each."""


async def once(quota: Quota) -> None:
    await quota.begin(100)
    await quota.end(Outcome(False, None, 0, 100))


def main() -> None:
    logs.begin(study="Spending", workspace="nowhere")
    connect()
    with Reporter().stage("caption", sum(CALLS.values()), "calls") as progress:
        for service, calls in CALLS.items():
            quota = Quota(name=sys.argv[1], service=service, price=Price(0.0, 10.0), ledger=sys.argv[1])
            for _ in range(calls):
                asyncio.run(once(quota))
                progress({"ok": 1})
    print(f"spent {quota.settle():.4f}", flush=True)


if __name__ == "__main__":
    main()
