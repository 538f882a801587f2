"""`oo-ml evaluate`: estimate the reward of another policy from the log."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Final

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.options import Since, Until, policy_name, refuse_empty_period
from oo_ml.cli.results import AsJson, Column, print_json, print_records, printable
from oo_ml.domain.evaluation.estimators import Estimate
from oo_ml.domain.evaluation.targets import POSSIBLE, describe, parse
from oo_ml.errors import EvaluationRefusedError
from oo_ml.progress import progress
from oo_ml.services.database import single_connection
from oo_ml.services.evaluation.from_file import TARGET, evaluate_file
from oo_ml.services.evaluation.from_log import Question, walk_log
from oo_ml.services.evaluation.results import Evaluation, Part, conclude

_COLUMNS: Final = (
    Column("reward a decision", lambda row: row["label"], is_whole=True),
    Column("estimate", lambda row: f"{row['estimate'].estimate:.4f}", is_number=True, is_whole=True),
    Column("95 % interval", lambda row: _interval(row["estimate"]), is_number=True, is_whole=True),
)


def _target(text: str | None) -> str | None:
    """Return the target's name as `describe` has it."""
    try:
        return text if text is None else describe(parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def evaluate(  # noqa: PLR0913, PLR0917 - an option each
    target: Annotated[
        str | None, typer.Option(metavar="POLICY", help=f"The policy to evaluate: {POSSIBLE}", callback=_target)
    ] = None,
    since: Since = None,
    until: Until = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only decisions of this published policy", callback=policy_name),
    ] = None,
    csv: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(
            metavar="FILE",
            help="Evaluate a log from a file instead: CSV with the columns action, reward, propensity and p_target;"
            " user, as otherwise each row counts as a user of its own; q_logged and q_target if there is a model of the"
            " reward; - is standard input",
        ),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Estimate from the log what another policy would have earned.

    Read-only; safe while the service is running. Prints the reasons to doubt the result, if there are any. Exit code 1
    if the log does not support the estimate: it needs decisions that were drawn at random (OO_ML_EXPLORATION,
    OO_ML_EPSILON, or the rule of a policy's definition).
    """
    refuse_empty_period(since, until)
    try:
        if csv is None and target is not None:
            evaluation = _of_service(Question(parse(target), since, until, policy), target)
        elif csv is not None and not (target or since or until or policy):
            evaluation = evaluate_file(csv)
        else:
            raise typer.BadParameter("either --target, with --since, --until and --policy if needed, or --csv")
    except EvaluationRefusedError as error:
        if as_json:
            print_json({"refused": error.message})
        raise
    if as_json:
        print_json(asdict(evaluation) | {"doubtful": bool(evaluation.doubts)})
    else:
        _show(target or TARGET, evaluation)


def _of_service(question: Question, name: str) -> Evaluation:
    with open_database() as (url, settings), single_connection(settings, url, read_only=True, long=True) as engine:
        walk = walk_log(engine, settings, question)
        found = Part()
        # On standard error, so that standard output has only the result.
        with progress(sys.stderr, "Evaluating", walk.states) as advance:
            for part in walk.parts:
                found += part
                advance(part.states)
    return conclude(name, found)


def _show(name: str, evaluation: Evaluation) -> None:
    best = "SNIPS" if evaluation.dr is None else "DR"
    estimates = {
        "observed, by the log's own policy": evaluation.observed,
        best: evaluation.dr or evaluation.snips,
        f"{best} less observed": evaluation.gain,
        "SNIPS": evaluation.snips,
        "IPS": evaluation.ips,
    }
    rows = [{"label": label, "estimate": estimate} for label, estimate in estimates.items()]
    print_records(rows, _COLUMNS, is_light=True)
    for line in _lines(printable(name), evaluation):
        typer.echo(line)


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None or estimate.high is None else f"{estimate.low:.4f} to {estimate.high:.4f}"


def _lines(name: str, evaluation: Evaluation) -> Iterator[str]:
    share, users = evaluation.share_without_support, evaluation.users
    yield (
        f"decisions {evaluation.n} (without a reward {evaluation.unrewarded}, left out {evaluation.left_out}),"
        f" users {'unknown' if users is None else users}, effective sample size {evaluation.ess:.1f}"
    )
    yield (
        f"largest weight {evaluation.max_weight:.4g}, mean weight {evaluation.mean_weight:.4g},"
        f" share without support {'unknown' if share is None else f'{share:.2%}'}"
    )
    if evaluation.unreadable:
        fields = ", ".join(f"{printable(field)} {count}" for field, count in sorted(evaluation.unreadable.items()))
        yield f"Left out without a valid field that {name} needs: {fields}"
    if evaluation.priorless:
        yield f"Left out because their prior version is not known here: {evaluation.priorless}"
    if evaluation.unlearned:
        yield f"The state of {name} leaves out {evaluation.unlearned} ledger entries, for which no raw fields are known"
    if users is None:
        yield "Each row counts as a user of its own; if users have several rows, add a column user: the intervals widen"
    if evaluation.doubts:
        yield f"Doubtful: the log does not show reliably what {name} would have earned"
        yield from (f"- {doubt.reason}" for doubt in evaluation.doubts)
    else:
        yield _reading(name, evaluation)


def _reading(name: str, evaluation: Evaluation) -> str:
    """Return the result in a sentence, for an evaluation without doubts, which has an interval."""
    best, gain, own = evaluation.dr or evaluation.snips, evaluation.gain, evaluation.observed.estimate
    assert gain.low is not None and gain.high is not None  # noqa: S101, PT018 - few users are doubtful
    earns = f"{name} would have earned {best.estimate:.4f} a decision"
    if gain.low <= 0 <= gain.high:
        return f"{earns}; the log can't tell that from the {own:.4f} of its own policy."
    return f"{earns}, {'more' if gain.low > 0 else 'less'} than the {own:.4f} of the log's own policy."
