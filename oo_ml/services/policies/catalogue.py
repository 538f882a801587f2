"""The policies that a process decides by, read again every few seconds, and when a name is unknown.

No call waits for the reading of every few seconds, unless it takes them all.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from oo_ml.domain.policies import Policy, Rule
from oo_ml.domain.population import Prior
from oo_ml.domain.traffic import Traffic
from oo_ml.errors import UnavailableError, UnknownPolicyError, UnreadablePolicyError
from oo_ml.execution.outcomes import only
from oo_ml.execution.pool import Pool
from oo_ml.execution.shared_reading import SharedReading
from oo_ml.services.each import each
from oo_ml.services.policies.compiled import compile_row
from oo_ml.services.policies.traffic import read_traffic
from oo_ml.storage import policies, policy_priors
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.postgres.sessions import Reading

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Registry:
    """The registry at one moment: policies by name, and the shares of the users, if there are any."""

    policies: Mapping[str, Policy | UnreadablePolicyError]
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
def _read_all(connection: Reading, _: None) -> tuple[list[PolicyRow], Mapping[str, Prior], Traffic | None]:
    return policies.list_all(connection), policy_priors.read_latest(connection), read_traffic(connection)


class PolicyCatalogue:
    """All published policies, compiled, and the traffic between them."""

    def __init__(self, readers: Pool[Reading], rules: Mapping[str, Rule], *, max_age: float) -> None:
        """Start without policies; the first call reads them.

        Args:
            readers: the threads that read the registry.
            rules: the rules that settings give to policies, by name.
            max_age: seconds for which a reading is good; a retirement or other traffic works within them. After half
                of them a call begins the next reading, and after all of them calls wait for it.
        """
        self._readers = readers
        self._rules = rules
        self._max_age = max_age
        self._registry = SharedReading(self._read)
        self._is_failing = False

    async def find(self, name: str, *, asked_at: float | None = None) -> Policy:
        """Return the policy of this name, retired or not.

        Args:
            name: of the policy.
            asked_at: the time.monotonic() at which it was asked for; None: now. An unknown name is looked for in a
                reading that began later, so several names that were asked for at once take one reading.

        Raises:
            UnknownPolicyError: no policy has this name.
            UnreadablePolicyError: a later release published the policy.
            UnavailableError: the registry can't be read now, and was not read before.
        """
        asked_at = time.monotonic() if asked_at is None else asked_at
        return await self._take(await self._read_recent(), name, asked_at)

    async def assign(self, user_id: str, default: str) -> Assigned:
        """Return the policy that the traffic gives a user; without traffic it is `default`.

        Raises:
            UnknownPolicyError, UnreadablePolicyError, UnavailableError: as of `find`.
        """
        asked_at = time.monotonic()
        recent = await self._read_recent()
        if recent.traffic is None:
            return Assigned(await self._take(recent, default, asked_at))
        name = recent.traffic.pick(user_id)
        return Assigned(await self._take(recent, name, asked_at), recent.traffic.shares[name])

    async def _take(self, recent: _Registry, name: str, asked_at: float) -> Policy:
        found = recent.policies.get(name)
        if found is None:
            # It may have been published a moment ago.
            found = (await self._registry.since(asked_at)).policies.get(name)
        if found is None:
            raise UnknownPolicyError(f"Unknown policy: {name}")
        if isinstance(found, UnreadablePolicyError):
            # A new one: each call that raises an error adds its trace to it.
            raise UnreadablePolicyError(found.message)
        return found

    async def _read_recent(self) -> _Registry:
        now = time.monotonic()
        try:
            recent = await self._registry.since(now - self._max_age)
        except UnavailableError:
            # What was published never changes: only a retirement or a change of traffic may be seen late.
            if self._registry.last is None:
                raise
            return self._registry.last
        self._registry.refresh(now - self._max_age / 2)
        return recent

    def _find_last(self, policy: str) -> Policy | UnreadablePolicyError | None:
        """Return the policy as of the last reading."""
        return None if self._registry.last is None else self._registry.last.policies.get(policy)

    def _keep(self, policy: str, prior: Prior | None) -> Prior | None:
        """Return the prior, as the object of the last reading if it is the same version: its inverse is known."""
        last = self._find_last(policy)
        if isinstance(last, Policy) and last.population and prior and last.population.prior.is_same(prior):
            return last.population.prior
        return prior

    async def _read(self) -> _Registry:
        try:
            rows, priors, traffic = only(await self._readers.run(_read_all, [None]))
        except UnavailableError as error:
            # Once for many readings: calls try again and again.
            if not self._is_failing:
                logger.warning(
                    "the policies can't be read; those of the last reading are used until they can: %s",
                    error.explanation,
                )
            self._is_failing = True
            raise
        self._is_failing = False
        found: dict[str, Policy | UnreadablePolicyError] = {}
        for row in rows:
            try:
                found[row.policy] = compile_row(row, self._rules, self._keep(row.policy, priors.get(row.policy)))
            except UnreadablePolicyError as error:
                # During an upgrade. The other policies go on.
                found[row.policy] = error
                # Told once: a definition never changes.
                if not isinstance(self._find_last(row.policy), UnreadablePolicyError):
                    logger.error("%s", error.explanation)  # noqa: TRY400 - the message is enough
        return _Registry(found, traffic)
