"""The policies that a process decides by, read again after some seconds, and when a name is unknown."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from oo_ml.domain.policies import Policy, Rule
from oo_ml.errors import RetiredPolicyError, UnavailableError, UnknownPolicyError
from oo_ml.execution.outcomes import only
from oo_ml.execution.pool import Pool
from oo_ml.execution.shared_reading import SharedReading
from oo_ml.services.each import each
from oo_ml.services.policies.compiled import compile_row
from oo_ml.storage import policies
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.postgres.sessions import Reading


@dataclass(frozen=True, slots=True)
class _Held:
    policy: Policy
    is_active: bool


@each
def _list_all(connection: Reading, _: None) -> list[PolicyRow]:
    return policies.list_all(connection)


class PolicyCatalogue:
    """All published policies, compiled."""

    def __init__(self, readers: Pool[Reading], rules: Mapping[str, Rule], *, max_age: float) -> None:
        """Start without policies; the first call reads them.

        Args:
            readers: the threads that read the registry.
            rules: the rules that settings give to policies, by name.
            max_age: seconds for which a reading is good; a retirement works within them.
        """
        self._readers = readers
        self._rules = rules
        self._max_age = max_age
        self._policies = SharedReading(self._read)

    async def find(self, name: str) -> Policy:
        """Return the policy of this name, retired or not.

        Raises:
            UnknownPolicyError: no policy has this name.
            UnavailableError: the registry can't be read now, and was not read before.
        """
        return (await self._find(name)).policy

    async def find_active(self, name: str) -> Policy:
        """Return the policy of this name, to decide by it.

        Raises:
            UnknownPolicyError, UnavailableError: as of `find`.
            RetiredPolicyError: the policy makes no more decisions.
        """
        held = await self._find(name)
        if not held.is_active:
            raise RetiredPolicyError(
                f"Retired policy: {name}; it learns from late rewards, and makes no more decisions"
            )
        return held.policy

    async def _find(self, name: str) -> _Held:
        asked_at = time.monotonic()
        try:
            held = (await self._policies.since(asked_at - self._max_age)).get(name)
        except UnavailableError:
            # What was published never changes: only a retirement may be seen late.
            if self._policies.last is None or name not in self._policies.last:
                raise
            held = self._policies.last[name]
        if held is None:
            # It may have been published a moment ago.
            held = (await self._policies.since(asked_at)).get(name)
        if held is None:
            raise UnknownPolicyError(f"Unknown policy: {name}")
        return held

    async def _read(self) -> Mapping[str, _Held]:
        rows = only(await self._readers.run(_list_all, [None]))
        return {row.policy: _Held(compile_row(row, self._rules), row.status == "active") for row in rows}
