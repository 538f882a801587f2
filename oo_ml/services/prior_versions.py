"""The versions of priors that logged decisions started from, read when they are needed."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from oo_ml.domain.policies import Policy
from oo_ml.domain.population import Prior
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import Fit
from oo_ml.storage.postgres.sessions import Reading

# Versions in memory: 26 MB with 64 features, and 1 MB with 12.
_KEPT: Final = 200


class PriorVersions:
    """The prior versions of all policies, for one transaction; the latest used ones are kept in memory."""

    def __init__(self, connection: Reading) -> None:
        """Read nothing yet."""
        self._connection = connection
        self._kept: OrderedDict[tuple[str, int], Prior] = OrderedDict()
        self._fits: dict[str, list[Fit]] = {}

    def find(self, policy: Policy, versions: Iterable[int]) -> dict[int, Prior]:
        """Return those of `versions` that exist; old ones may have been deleted."""
        names = {(policy.name, version) for version in versions}
        found = {name: self._kept[name] for name in names if name in self._kept}
        if (start := (policy.name, 0)) in names - found.keys():
            found[start] = Prior.initial(policy.features.dimension)
        if missing := names - found.keys():
            found |= policy_priors.find(self._connection, sorted(missing))
        for name, prior in found.items():
            self._kept[name] = prior
            self._kept.move_to_end(name)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return {version: prior for (_, version), prior in found.items()}

    def find_as_of(self, policy: Policy, times: Sequence[datetime]) -> list[Prior | None]:
        """Return the latest version at each of m times; None: that version was deleted."""
        if policy.name not in self._fits:
            self._fits[policy.name] = policy_priors.list_fits(self._connection, policy.name)
        fits = self._fits[policy.name]
        fitted_at = [fit.fitted_at for fit in fits]
        # The version before the first one that is left; 0 before the first fit.
        before = fits[0].version - 1 if fits else 0
        places = [bisect_right(fitted_at, at) for at in times]
        versions = [fits[place - 1].version if place else before for place in places]
        found = self.find(policy, versions)
        return [found.get(version) for version in versions]
