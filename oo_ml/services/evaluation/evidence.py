"""The evidence that each decision was made from, folded from the ledger, and that which a target would have had."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from oo_ml.domain.features import Features
from oo_ml.domain.learning import Change, Kind, Learned, Replayed, StoredEntry, fold, fold_entry
from oo_ml.domain.policies import Policy
from oo_ml.errors import LogContradictedError
from oo_ml.services.decision_blocks import TAMPERED, Made
from oo_ml.storage.decision_log import Choice, LoggedDecision

Ledger = Iterable[tuple[StoredEntry, Choice | None]]


@dataclass(frozen=True, slots=True, eq=False)
class _States:
    """The state of the log's policy, and that of the target; entries that the target's state leaves out are counted."""

    of_log: Replayed
    of_target: Learned | None
    unlearned: int = 0


def fold_evidence(
    decisions: Iterable[LoggedDecision], ledger: Ledger, policies: Mapping[str, Policy], target: Policy | None = None
) -> Iterator[Made]:
    """Yield each decision with the evidence that it was made from; decisions from the same state share one object.

    If the `target` learns as the decision's policy does, their evidence is the same one, and target_evidence is None.
    Otherwise the target's evidence is the fold of the same entries, with the target's features of the tips that were
    chosen, and its weights. It leaves out an entry without a decision, an import, an entry about a decision past
    retention, and one whose fields the target can't read.

    Args:
        decisions: decisions of `policies`, sorted by user, policy, epoch and position.
        ledger: entries of the same users and of any policies, sorted by user, policy, epoch and version; with their
            choices if there is a `target`.
        policies: by name.
        target: the target policy; None: it needs no evidence.

    Raises:
        LogContradictedError: the ledger does not give the version at which a decision was made.
    """
    entries = ((entry, choice) for entry, choice in ledger if entry.policy in policies)
    entry, choice = next(entries, (None, None))
    # User, policy and epoch of `states`.
    key: tuple[str, str, int] | None = None
    for decision in decisions:
        while entry is not None and entry[:4] <= decision[:4]:
            if key != entry[:3]:
                key, states = entry[:3], _fresh(policies[entry.policy], entry.epoch, target)
            try:
                states = _fold(states, entry, choice, target)
            except TAMPERED:
                raise build_contradiction(entry) from None
            entry, choice = next(entries, (None, None))
        if key != decision[:3]:
            key, states = decision[:3], _fresh(policies[decision.policy], decision.epoch, target)
        if states.of_log.version != decision.version:
            raise build_contradiction(decision)
        yield Made(
            decision,
            states.of_log.learned.evidence,
            target_evidence=None if states.of_target is None else states.of_target.evidence,
            unlearned=states.unlearned,
        )
        states = _States(states.of_log, states.of_target)


def learns_apart(target: Policy, policy: Policy) -> bool:
    """Return whether a target policy needs evidence of its own, beside that of the log's policy.

    Two policies with populations start from different priors, and may have different half-lives.
    """
    if target.population is None and policy.population is None:
        return not target.features.is_same(policy.features)
    return target.name != policy.name


def _fresh(policy: Policy, epoch: int, target: Policy | None) -> _States:
    own = target is not None and learns_apart(target, policy)
    return _States(
        Replayed.fresh(policy.fresh(), epoch),
        Learned(target.fresh(), 0, 0.0) if target is not None and own else None,
    )


def _fold(states: _States, entry: StoredEntry, choice: Choice | None, target: Policy | None) -> _States:
    of_log, of_target = fold_entry(states.of_log, entry), states.of_target
    if target is None or of_target is None:
        return _States(of_log, None)
    # All entries of a decision are left out, or none: the next ones correct the first.
    if choice is None or entry.kind == Kind.IMPORT or not can_read(target.features, choice):
        return _States(of_log, of_target, states.unlearned + 1)
    x = target.features.encode([choice.context], [choice.features], [1]).X[0]
    weight = target.weigh(choice.decided_at)
    learned = fold(of_target, Change(Kind(entry.kind), x, entry.reward, entry.previous_reward, weight))
    return _States(of_log, learned, states.unlearned)


def can_read(features: Features, choice: Choice) -> bool:
    """Return whether the target has all fields that it needs of a chosen tip."""
    return features.find_bad_field(choice.context, [choice.features]) is None


def build_contradiction(where: LoggedDecision | StoredEntry) -> LogContradictedError:
    """Return the error for a decision or a ledger entry that contradicts the others."""
    which = f"decision {where.decision_id}" if isinstance(where, LoggedDecision) else f"epoch {where.epoch}"
    # An id may hold escape sequences.
    name = where.user_id if where.user_id.isprintable() else repr(where.user_id)
    return LogContradictedError(
        f"{name}: {where.policy}, {which}, version {where.version}: the decisions and the ledger disagree; run"
        " `oo-ml verify` to find the difference"
    )
