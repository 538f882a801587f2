"""Evaluation from a CSV file, which includes the target's probability of each chosen action."""

from typing import IO

from oo_ml.domain.evaluation import estimators
from oo_ml.domain.evaluation.estimators import UserTotals
from oo_ml.errors import EvaluationRefusedError, NothingToEvaluateError
from oo_ml.files import decision_log_csv
from oo_ml.services.evaluation.results import NO_DECISIONS, Evaluation, Part, estimate
from oo_ml.settings import Settings

TARGET = "the target"


def evaluate_file(source: IO[bytes]) -> Evaluation:
    """Return the estimates for the target whose probabilities are in the column p_target.

    Without the column user each row counts as a user of its own, and `users` of the result is None.

    Args:
        source: CSV with columns action, reward, propensity, p_target; user if known; q_logged, q_target with a model of
            the reward.

    Raises:
        LogFileError: the file can't be read.
        NothingToEvaluateError: the file has no rows.
        EvaluationRefusedError: the log can't support the target.
    """
    total, is_same, totals = Part(), True, UserTotals()
    has_users = False
    for rows in decision_log_csv.read(source):
        weights = rows.p_target / rows.propensity
        summary = NO_DECISIONS
        if rows.user is None:
            summary = estimators.summarise(weights, rows.reward, rows.q_logged, rows.q_target)
        else:
            has_users = True
            totals.add(rows.user, weights, rows.reward, rows.q_logged, rows.q_target)
        total += Part(summary=summary, is_random=bool((rows.propensity < 1).any()))
        is_same = is_same and bool((rows.p_target == 1).all())
    total += Part(summary=totals.summarise())
    if not total.summary.n:
        raise NothingToEvaluateError("The log holds no decision to evaluate: it has no rows after the header")
    if not (total.is_random or is_same):
        raise EvaluationRefusedError(
            f"Cannot evaluate {TARGET}: every propensity in the log is 1, so the log says nothing about other choices."
            f" The decisions of this service are random if {Settings.variable('exploration')} and"
            f" {Settings.variable('epsilon')} are above 0"
        )
    return estimate(TARGET, total, None, has_users=has_users)
