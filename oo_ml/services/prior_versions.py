"""The versions of priors that logged decisions started from, read when they are needed."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from oo_ml.domain.policies import Policy
from oo_ml.domain.population import Prior
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import Fit
from oo_ml.storage.postgres.sessions import Reading

# Versions in memory: 26 MB with 64 features, and 1 MB with 12.
_KEPT: Final = 200
_BEFORE_DATA: Final = datetime.min.replace(tzinfo=UTC)


class Start(NamedTuple):
    """The version of a prior from which a decision at a time started."""

    version: int
    decided_at: datetime


class _Known(NamedTuple):
    prior: Prior
    fitted_at: datetime


class PriorVersions:
    """The prior versions of all policies, for one transaction; the latest used ones are kept in memory."""

    def __init__(self, connection: Reading) -> None:
        """Read nothing yet."""
        self._connection = connection
        self._kept: OrderedDict[tuple[str, int], _Known] = OrderedDict()
        self._fits: dict[str, list[Fit]] = {}

    def find(self, policy: Policy, starts: Sequence[Start]) -> list[Prior | None]:
        """Return the priors from which m decisions started; None: it is unknown here.

        It may have been deleted. And a replay may have brought the decision from another database; if this one has
        fitted a version of that number since, it is another prior.
        """
        found = self._read(policy, {start.version for start in starts})
        known = [found.get(start.version) for start in starts]
        return [
            one.prior if one is not None and one.fitted_at <= start.decided_at else None
            for one, start in zip(known, starts, strict=True)
        ]

    def find_as_of(self, policy: Policy, times: Sequence[datetime]) -> list[Prior | None]:
        """Return the latest version at each of m times; None: it was deleted."""
        if policy.name not in self._fits:
            self._fits[policy.name] = policy_priors.list_fits(self._connection, policy.name)
        fits = self._fits[policy.name]
        fitted_at = [fit.fitted_at for fit in fits]
        # The version before the first one that is left; 0 before the first fit.
        before = fits[0].version - 1 if fits else 0
        places = [bisect_right(fitted_at, at) for at in times]
        versions = [fits[place - 1].version if place else before for place in places]
        found = self._read(policy, set(versions))
        return [found[version].prior if version in found else None for version in versions]

    def _read(self, policy: Policy, versions: Iterable[int]) -> dict[int, _Known]:
        """Return those of `versions` that exist."""
        names = {(policy.name, version) for version in versions}
        found = {name: self._kept[name] for name in names if name in self._kept}
        if (start := (policy.name, 0)) in names - found.keys():
            found[start] = _Known(Prior.initial(policy.features.dimension), _BEFORE_DATA)
        if missing := names - found.keys():
            rows = policy_priors.find(self._connection, sorted(missing))
            found |= {name: _Known(row.prior, row.fitted_at) for name, row in rows.items()}
        for name, known in found.items():
            self._kept[name] = known
            self._kept.move_to_end(name)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return {version: known for (_, version), known in found.items()}
