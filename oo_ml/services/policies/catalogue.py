"""The policies that a process decides by, read again after some seconds, and when a name is unknown."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from oo_ml.domain.policies import Policy, Rule
from oo_ml.domain.traffic import Traffic
from oo_ml.errors import RetiredPolicyError, UnavailableError, UnknownPolicyError
from oo_ml.execution.outcomes import only
from oo_ml.execution.pool import Pool
from oo_ml.execution.shared_reading import SharedReading
from oo_ml.services.each import each
from oo_ml.services.policies.compiled import compile_row
from oo_ml.services.policies.traffic import read_traffic
from oo_ml.storage import policies
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.postgres.sessions import Reading


@dataclass(frozen=True, slots=True)
class _Held:
    policy: Policy
    is_active: bool


@dataclass(frozen=True, slots=True)
class _Registry:
    """The registry at one moment: policies by name, and the shares of the users, if there are any."""

    policies: Mapping[str, _Held]
    traffic: Traffic | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """The policy of a user whose client names none.

    Attributes:
        probability: its share of the users; None: there is no traffic.
    """

    policy: Policy
    probability: float | None = None


@each
def _read_all(connection: Reading, _: None) -> tuple[list[PolicyRow], Traffic | None]:
    return policies.list_all(connection), read_traffic(connection)


class PolicyCatalogue:
    """All published policies, compiled, and the traffic between them."""

    def __init__(self, readers: Pool[Reading], rules: Mapping[str, Rule], *, max_age: float) -> None:
        """Start without policies; the first call reads them.

        Args:
            readers: the threads that read the registry.
            rules: the rules that settings give to policies, by name.
            max_age: seconds for which a reading is good; a retirement or other traffic works within them.
        """
        self._readers = readers
        self._rules = rules
        self._max_age = max_age
        self._registry = SharedReading(self._read)

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

    async def assign(self, user_id: str, default: str, *, to_decide: bool) -> Assigned:
        """Return the policy that the traffic gives a user; without traffic it is `default`.

        Raises:
            UnknownPolicyError, UnavailableError: as of `find`.
            RetiredPolicyError: as of `find_active`, if the policy is `to_decide`.
        """
        find = self.find_active if to_decide else self.find
        traffic = (await self._read_recent()).traffic
        if traffic is None:
            return Assigned(await find(default))
        name = traffic.pick(user_id)
        return Assigned(await find(name), traffic.shares[name])

    async def _find(self, name: str) -> _Held:
        asked_at = time.monotonic()
        held = (await self._read_recent()).policies.get(name)
        if held is None:
            # It may have been published a moment ago.
            held = (await self._registry.since(asked_at)).policies.get(name)
        if held is None:
            raise UnknownPolicyError(f"Unknown policy: {name}")
        return held

    async def _read_recent(self) -> _Registry:
        try:
            return await self._registry.since(time.monotonic() - self._max_age)
        except UnavailableError:
            # What was published never changes: only a retirement or a change of traffic may be seen late.
            if self._registry.last is None:
                raise
            return self._registry.last

    async def _read(self) -> _Registry:
        rows, traffic = only(await self._readers.run(_read_all, [None]))
        held = {row.policy: _Held(compile_row(row, self._rules), row.status == "active") for row in rows}
        return _Registry(held, traffic)
