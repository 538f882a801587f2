"""Off-policy evaluation of anybody's log, which brings along how likely the target was to choose what was chosen."""

from typing import IO

from oo_ml.domain.evaluation import estimators
from oo_ml.errors import EvaluationRefusedError, NothingToEvaluateError
from oo_ml.files import decision_log_csv
from oo_ml.services.evaluation.findings import Evaluation, Part, evaluation
from oo_ml.settings import Settings

TARGET = "the target"


def evaluate_file(source: IO[bytes]) -> Evaluation:
    """Return what a log says of the target that its p_target is of.

    Args:
        source: CSV, columns action, reward, propensity, p_target; q_logged and q_target if rewards are modelled.

    Raises:
        LogFileError: it can't be read.
        NothingToEvaluateError: it has no rows.
        EvaluationRefusedError: it can't support the target.
    """
    found, is_same = Part(), True
    for rows in decision_log_csv.read(source):
        weights = rows.p_target / rows.propensity
        summary = estimators.summarise(weights, rows.reward, rows.q_logged, rows.q_target)
        found += Part(summary=summary, is_random=bool((rows.propensity < 1).any()))
        is_same = is_same and bool((rows.p_target == 1).all())
    if not found.summary.n:
        raise NothingToEvaluateError("The log holds no decision to evaluate: there is nothing behind its first line")
    if not (found.is_random or is_same):
        raise EvaluationRefusedError(
            f"The log can't tell what {TARGET} would earn: its policy is deterministic, since every propensity is 1,"
            " and what others would show had no chance to be shown there (what this service decides is random with"
            f" {Settings.variable('exploration')} and {Settings.variable('epsilon')} above 0)"
        )
    return evaluation(TARGET, found, None)
