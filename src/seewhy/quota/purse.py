"""The desk's money, for a driver that pays for whole jobs of a service and not call by call."""

import time
from typing import Any

from seewhy.failure import Fatal
from seewhy.quota.desk import desk_name, find_desk

_TRIES = 5
_AGAIN_SEC = 1.0
_LOST_SEC = 60.0
"""A desk that has not answered by then is asked again: to be told twice is to be told once."""


class SharedPurse:
    """A ``prices.Purse`` that pays from the same budget as all calls of the desk's callers.

    Args:
        name, service: of the desk, and of what is paid for, as of ``Quota``.
        ledger: URL of the file that says what was spent.
        budget_usd: None for any sum.

    Raises:
        Fatal: of its methods, where the desk is lost again and again, or cannot read the ledger.
    """

    def __init__(self, *, name: str, service: str, ledger: str, budget_usd: float | None = None) -> None:
        self._name = desk_name(name)
        self._service = service
        self._terms = (ledger, budget_usd)

    def set_aside(self, call: str, most_usd: float) -> str | None:
        """See ``Purse``."""
        refusal: str | None = self._ask("set_aside", *self._terms, call, most_usd)
        return refusal

    def recall(self, call: str, most_usd: float, *, counted: bool = True) -> None:
        """See ``Purse``."""
        self._ask("recall", *self._terms, call, most_usd, counted)

    def settle(self, call: str, cost_usd: float | None) -> None:
        """See ``Purse``. A desk that has died since had counted the call as spent, and goes on doing so."""
        self._ask("pay", call, cost_usd, self._service)
        self._ask("settle")

    def _ask(self, method: str, *args: Any) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

        lost: Exception | None = None
        for _ in range(_TRIES):
            try:
                return ray.get(getattr(find_desk(self._name), method).remote(*args), timeout=_LOST_SEC)
            except RayTaskError as error:  # not a lost desk but a fault
                if isinstance(error.cause, Fatal):
                    raise error.cause from error
                raise Fatal(f"the desk that keeps the budget failed: {error.cause}") from error
            except (RayActorError, GetTimeoutError, ValueError) as error:  # ValueError: its name is about to be free
                lost = error
                time.sleep(_AGAIN_SEC)
        raise Fatal(f"the desk that keeps the budget does not answer ({lost}); run again to go on from here")
