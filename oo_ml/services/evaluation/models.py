"""The model that made each decision, rebuilt from the ledger."""

from collections.abc import Iterable, Iterator, Mapping

from oo_ml.domain.learning import Replayed, StoredEntry, fold_entry
from oo_ml.domain.policies import Policy
from oo_ml.domain.ridge import Ridge
from oo_ml.errors import LogContradictedError
from oo_ml.storage.decision_log import LoggedDecision


def rebuild_models(
    decisions: Iterable[LoggedDecision], ledger: Iterable[StoredEntry], policies: Mapping[str, Policy]
) -> Iterator[tuple[LoggedDecision, Ridge]]:
    """Yield each decision with the model that made it; decisions made by the same model share one object.

    Args:
        decisions: decisions of `policies`, sorted by user, policy, epoch and position.
        ledger: entries of the same users and of any policies, sorted by user, policy, epoch and version.
        policies: by name.

    Raises:
        LogContradictedError: the ledger does not give the version at which a decision was made.
    """
    entries = (entry for entry in ledger if entry.policy in policies)
    entry = next(entries, None)
    key: tuple[str, str] | None = None
    for decision in decisions:
        while entry is not None and entry[:4] <= decision[:4]:
            if key != entry[:2]:
                key, replayed = entry[:2], _fresh(policies[entry.policy], entry.epoch)
            try:
                replayed = fold_entry(replayed, entry)
            except ValueError:
                raise build_contradiction(entry) from None
            entry = next(entries, None)
        if key != decision[:2] or replayed.epoch != decision.epoch:
            key, replayed = decision[:2], _fresh(policies[decision.policy], decision.epoch)
        if replayed.version != decision.version:
            raise build_contradiction(decision)
        yield decision, replayed.learned.model


def _fresh(policy: Policy, epoch: int) -> Replayed:
    return Replayed.fresh(policy.features.dimension, epoch)


def build_contradiction(where: LoggedDecision | StoredEntry) -> LogContradictedError:
    """Return the error for a decision or a ledger entry that contradicts the others."""
    which = f"decision {where.decision_id}" if isinstance(where, LoggedDecision) else f"epoch {where.epoch}"
    # An id may hold escape sequences.
    name = where.user_id if where.user_id.isprintable() else repr(where.user_id)
    return LogContradictedError(
        f"{name}: {where.policy}, {which}, version {where.version}: the decisions and the ledger disagree; run"
        " `oo-ml verify` to find the difference"
    )
