"""`oo-ml policies`: the registry of policies, the check of a definition before it is published, and fits of priors."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.exit_codes import ExitCode
from oo_ml.cli.options import policy_name, policy_names
from oo_ml.cli.results import AsJson, Column, print_json, print_records, printable
from oo_ml.cli.warm import warm
from oo_ml.domain.identifiers import is_policy_name, is_storable
from oo_ml.errors import (
    InvalidDefinitionError,
    OoMlError,
    UnavailableError,
    UnreadablePolicyError,
    describe_place,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oo_ml.definitions.examples import Example
    from oo_ml.domain.policies import Policy, Rule
    from oo_ml.services.policies.fit import Fitted
    from oo_ml.services.policies.preview import Preview
    from oo_ml.services.policies.registry import PolicyRow

app = typer.Typer(
    help="List, show, check, publish and retire policies: what each looks at, and how it chooses. Share the users"
    " between them, and fit the priors that users share. A published policy never changes.",
    no_args_is_help=True,
    add_completion=False,
)

# A definition has 64 inputs of 64 texts at most; those that fit are far smaller.
_MAX_FILE_BYTES: Final = 1_000_000
_MAX_DESCRIPTION_BYTES: Final = 1000
_STDIN: Final = "standard input"
_UNREADABLE: Final = "of a later release"
# Of a page of the list.
_PAGE: Final = 1000
_COLUMNS: Final = (
    Column("policy", lambda row: row["policy"], is_whole=True),
    Column("status", lambda row: row["status"]),
    Column("features", lambda row: str(row["dimension"]), is_number=True),
    Column("published", lambda row: f"{row['published_at']:%Y-%m-%d}"),
    Column("rule", lambda row: _UNREADABLE if row["rule"] is None else _describe_rule(row["rule"])),
    Column("evidence", lambda row: _UNREADABLE if row["rule"] is None else _describe_evidence(row["definition"])),
    Column("description", lambda row: row["description"]),
)

_TRAFFIC: Final = (
    Column("policy", lambda row: row["policy"], is_whole=True),
    Column("share", lambda row: f"{row['share']:.1%}", is_number=True),
    Column("decisions", lambda row: str(row["decided"].decisions if row["decided"] else 0), is_number=True),
    Column("users", lambda row: str(row["decided"].users if row["decided"] else 0), is_number=True),
)


_FITS: Final = (
    Column("policy", lambda row: row["policy"], is_whole=True),
    Column("version", lambda row: str(row["version"]), is_number=True),
    Column("users", lambda row: str(row["users"]), is_number=True),
    Column("rewards", lambda row: str(row["rewards"]), is_number=True),
    Column("noise", lambda row: f"{row['noise_variance']:.4f}", is_number=True),
    Column("largest change", lambda row: f"{row['largest_change']:.2f}", is_number=True),
    Column("inserted", lambda row: "yes" if row["inserted"] else "no"),
)


def _description(text: str) -> str:
    if not is_storable(text) or len(text.encode()) > _MAX_DESCRIPTION_BYTES:
        raise typer.BadParameter(f"must be text of at most {_MAX_DESCRIPTION_BYTES} bytes, in UTF-8")
    return text


Name = Annotated[str, typer.Argument(help="Name of the policy", callback=policy_name)]
File = Annotated[typer.FileBinaryRead, typer.Argument(help="The definition, JSON; -: standard input")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """List every policy, retired ones included, the oldest first. Read-only.

    The rules of linucb-v1 and egreedy-v1 are those of a service with the settings of this command. A policy that a
    later release published may have a rule that this one can't read: the list says so, with --json by null.
    """
    from oo_ml.execution.outcomes import only
    from oo_ml.services.database import run_once
    from oo_ml.services.paging import PageCommand
    from oo_ml.services.policies import compiled, registry

    rows: list[registry.PolicyRow] = []
    with open_database() as (url, settings):
        cursor: int | None = 0
        while cursor is not None:
            page = PageCommand(_PAGE, cursor)
            found = only(run_once(settings, url, registry.list_policies, [page], read_only=True))
            rows += found.rows
            cursor = found.next_cursor
        rules = compiled.rules_of(settings)
    records = [asdict(row) | {"rule": _read_rule(row, rules)} for row in rows]
    print_records(records, _COLUMNS, as_json=as_json)


@app.command()
def show(policy: Name, as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """Print the definition, the labels and the rule of a policy. Read-only. Exit code 1 if it is unknown."""
    from oo_ml.execution.outcomes import only
    from oo_ml.services.database import run_once
    from oo_ml.services.policies import compiled, registry

    with open_database() as (url, settings):
        row = only(run_once(settings, url, registry.show, [policy], read_only=True))
        found = compiled.compile_row(row, compiled.rules_of(settings))
    if as_json:
        print_json(asdict(row) | {"labels": found.features.labels, "rule": asdict(found.rule)})
        return
    typer.echo(f"# {row.policy} ({row.status}, published {row.published_at:%Y-%m-%d})\n# {row.description}")
    typer.echo(_describe(found))
    typer.echo(f"\n{json.dumps(row.definition, indent=2)}")


@app.command()
def check(
    file: File,
    example: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(
            help='A decision, JSON: {"context": {}, "candidates": [{"id": "a", "features": {}}]}; default: one is made',
        ),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Check a definition before it is published, and show what it makes of an example. Needs no database.

    Prints the labels of the features, the rule, whether it is pooled, the features x of each candidate of the
    example, and the probability with which each candidate would be chosen for a new user, before a prior is fitted.
    Exit code 1 if the definition or the example is invalid: each problem has its line and its place.
    """
    from oo_ml.definitions import compile_policy, parse
    from oo_ml.definitions.examples import make_example, parse_example
    from oo_ml.services.policies.preview import preview

    if example is not None and _name_file(file) == _name_file(example) == _STDIN:
        raise typer.BadParameter("standard input can hold the definition or the example, not both")
    text, document = _load(file, as_json=as_json)
    try:
        policy = compile_policy("", parse(document))
    except InvalidDefinitionError as error:
        raise _refuse(file, text, error, as_json=as_json) from None
    if example is None:
        decision = make_example(policy.features)
    else:
        text, document = _load(example, as_json=as_json)
        try:
            decision = parse_example(policy.features, document)
        except InvalidDefinitionError as error:
            raise _refuse(example, text, error, as_json=as_json) from None
    found = preview(policy, decision.context, [candidate.features for candidate in decision.candidates])
    if as_json:
        made = decision if example is None else None
        print_json(_build_report(policy, decision, found) | {"example": made and made.model_dump(mode="json")})
        return
    typer.echo(_describe(policy))
    if example is None:
        typer.echo(f"# example: {json.dumps(decision.model_dump(mode='json'))}")
    _print_preview(policy, decision, found)


@app.command()
def publish(
    policy: Name,
    file: File,
    description: Annotated[str, typer.Option(help="Purpose of the policy", callback=_description)] = "",
) -> None:
    """Publish a policy from a file with its definition. A published policy never changes.

    Calls that name the policy are served within OO_ML_POLICY_MAX_AGE. Exit code 1 if the name is taken or
    reserved, or the definition is invalid: each problem has its line and its place.
    """
    from oo_ml.definitions import parse
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.policies import registry

    text, definition = _load(file, as_json=False)
    try:
        parse(definition)
    except InvalidDefinitionError as error:
        raise _refuse(file, text, error, as_json=False) from None
    command = registry.PublishCommand(policy, description, definition, datetime.now(UTC))
    service = audited_command(registry.publish, "policy.published", attrgetter("policy"))
    with open_database() as (url, settings):
        only(run_once(settings, url, service, [command]))
    typer.echo(f"Published {policy}")


@app.command()
def retire(policy: Name) -> None:
    """Retire a policy: it makes no more decisions. Rewards of its decisions still count, and all of its data stays.

    Services refuse new decisions within OO_ML_POLICY_MAX_AGE. Exit code 1 if it is unknown or has traffic.
    """
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.policies.retire import retire as retire_policies

    service = audited_command(partial(retire_policies, retired_at=datetime.now(UTC)), "policy.retired", str)
    with open_database() as (url, settings):
        only(run_once(settings, url, service, [policy]))
    typer.echo(f"Retired {policy}")


@app.command()
def traffic(
    shares: Annotated[
        list[str] | None,
        typer.Argument(
            help="The new shares, such as pooled-v1=0.95 uniform-v1=0.05; their sum is 1", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Set which policy decides for which share of the users, where a call to /score or /reward names none.

    Each user keeps a policy as long as the shares stay the same, because policies learn for each user. Without
    shares, prints the shares that are set, and the decisions and users of the last day that came of them. Services
    follow within OO_ML_POLICY_MAX_AGE. Exit code 1 if the sum is not 1, or /score can't decide by a policy.
    """
    from oo_ml.domain.access import COMMAND_LINE
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.policies import traffic as service

    now = datetime.now(UTC)
    wanted = _parse_shares(shares or [])
    with open_database() as (url, settings):
        if wanted:
            command = service.SetTrafficCommand(wanted, now, COMMAND_LINE.key_id)
            change = audited_command(service.set_traffic, "traffic.changed", lambda _: "policies")
            only(run_once(settings, url, change, [command]))
        found = only(run_once(settings, url, service.show_traffic, [now - timedelta(days=1)], read_only=True))
    if as_json:
        print_json(
            {
                "changes": [asdict(one) for one in found.changes],
                "last_day": {name: one._asdict() for name, one in found.decided.items()},
            }
        )
        return
    if not found.changes:
        typer.echo("# no traffic is set: linucb-v1 decides for all users")
        return
    latest = found.changes[0]
    typer.echo(
        f"# set {latest.changed_at:%Y-%m-%d %H:%M} UTC by {latest.changed_by}; decisions and users of the last day"
    )
    rows = [
        {"policy": name, "share": share, "decided": found.decided.get(name)} for name, share in latest.shares.items()
    ]
    print_records(rows, _TRAFFIC)


@app.command()
def fit(
    policies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="POLICY",
            help="Policies to fit; default: all pooled ones",
            show_default=False,
            callback=policy_names,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Insert nothing")] = False,  # noqa: FBT002 - typer reads it as a flag
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Fit the prior from which the users of a policy start, now. Upkeep does so too when it is due.

    Inserts the next version of each prior, which services use within OO_ML_POLICY_MAX_AGE. Prints the users and rewards
    that it was fitted to, the variance of the noise, and the largest change of the mean, in standard deviations of
    users. A policy without users who have rewards is left out. Safe while the service is running. Exit code 1 if a
    policy is unknown or not pooled, or if a fit failed, which changes nothing.
    """
    import asyncio

    from oo_ml.progress import progress
    from oo_ml.services.database import run_once, single_worker
    from oo_ml.services.policies.fit import ReadCommand, fit_policy, list_fitted

    now = datetime.now(UTC)
    records: list[dict[str, Any]] = []
    errors: list[str] = []
    with open_database("warning") as (url, settings):
        names = list(dict.fromkeys(policies or ())) or run_once(settings, url, list_fitted, [None], read_only=True)[0]
        with single_worker(settings, url) as worker, progress(sys.stderr, "Fitting", 2 * len(names)) as advance:
            for name in names:
                try:
                    command = ReadCommand(name, now)
                    found = asyncio.run(fit_policy(worker, settings, command, is_dry_run=dry_run, advance=advance))
                except UnavailableError:
                    raise
                except OoMlError as error:
                    errors.append(error.explanation)
                else:
                    records += [] if found is None else [_build_fit(found)]
    print_records(records, _FITS, as_json=as_json)
    for message in errors:
        typer.echo(f"error: {message}", err=True)
    if errors:
        raise typer.Exit(ExitCode.FAILED)


def _read_rule(row: "PolicyRow", rules: "Mapping[str, Rule]") -> dict[str, Any] | None:
    """Return the rule of a policy; None: this release can't read it."""
    from oo_ml.services.policies.compiled import compile_row

    try:
        return asdict(compile_row(row, rules).rule)
    except UnreadablePolicyError:
        return None


def _build_fit(fitted: "Fitted") -> dict[str, Any]:
    return {"policy": fitted.row.policy} | asdict(fitted.version) | {"inserted": fitted.is_inserted}


def _parse_shares(texts: "Sequence[str]") -> dict[str, float]:
    """Return shares by policy.

    Raises:
        typer.BadParameter: a text is not NAME=SHARE, or names a policy twice.
    """
    shares: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not is_policy_name(name) or not 0 < share <= 1 or name in shares:
            raise typer.BadParameter(
                f"{text!r} must be POLICY=SHARE, each policy once, with a share above 0 and up to 1"
            )
        shares[name] = share
    return shares


def _load(file: BinaryIO, *, as_json: bool) -> tuple[str, Any]:
    """Return the text of a file, and the document in it.

    Raises:
        typer.Exit: the file is not JSON, which is reported.
    """
    content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise _report(file, [_build_problem(f"larger than {_MAX_FILE_BYTES} bytes")], as_json=as_json)
    try:
        text = content.decode("utf-8-sig")
        document = json.loads(text)
    except UnicodeDecodeError:
        problem = _build_problem("not UTF-8")
    except json.JSONDecodeError as error:
        problem = _build_problem(f"column {error.colno}: not JSON: {error.msg}", error.lineno)
    except RecursionError:
        problem = _build_problem("nested too deeply")
    except ValueError:
        problem = _build_problem("a number has too many digits")
    else:
        return text, document
    raise _report(file, [problem], as_json=as_json)


def _build_problem(problem: str, line: int | None = None, place: str = "") -> dict[str, Any]:
    return {"line": line, "place": place, "problem": problem}


def _refuse(file: BinaryIO, text: str, error: InvalidDefinitionError, *, as_json: bool) -> typer.Exit:
    """Report the problems of a document, each with its line in the text."""
    from oo_ml.files.json_places import find_line

    problems = [
        _build_problem(problem, find_line(text, place), describe_place(place)) for place, problem in error.problems
    ]
    return _report(file, problems, as_json=as_json)


def _report(file: BinaryIO, problems: "Sequence[dict[str, Any]]", *, as_json: bool) -> typer.Exit:
    """Print problems, and return the end of the command."""
    if as_json:
        print_json({"valid": False, "problems": problems})
    else:
        for one in problems:
            line = "" if one["line"] is None else f"line {one['line']}"
            parts = (_name_file(file), line, one["place"], one["problem"])
            typer.echo(f"error: {printable(': '.join(filter(None, parts)))}", err=True)
    return typer.Exit(ExitCode.FAILED)


def _name_file(file: BinaryIO) -> str:
    # Python calls standard input <stdin>, and a stream in its place need not have a name.
    name = str(getattr(file, "name", "<stdin>"))
    return _STDIN if name == "<stdin>" else name


def _describe(policy: "Policy") -> str:
    features = policy.features
    lines = [f"{features.dimension} features: {', '.join(features.labels)}", _describe_rule(asdict(policy.rule))]
    if policy.population is not None:
        lines.append(_describe_evidence(policy.definition))
    return "\n".join(f"# {line}" for line in lines)


def _describe_rule(rule: dict[str, Any]) -> str:
    given = {name: rule[name] for name in ("alpha", "sigma", "exploration") if rule[name]}
    return ", ".join(f"{name} {value:.15g}" for name, value in given.items()) or "greedy"


def _describe_evidence(definition: "Mapping[str, Any]") -> str:
    evidence = definition.get("evidence")
    if evidence is None:
        return "each user alone"
    half_life = evidence.get("half_life_days")
    return "pooled" + ("" if half_life is None else f", half-life {half_life:.15g} days")


def _build_report(policy: "Policy", decision: "Example", found: "Preview") -> dict[str, Any]:
    candidates = zip(decision.candidates, found.x, found.propensities, strict=True)
    return {
        "valid": True,
        "dimension": policy.features.dimension,
        "labels": policy.features.labels,
        "rule": asdict(policy.rule),
        "evidence": policy.definition.get("evidence"),
        "candidates": [{"id": one.id, "x": x, "propensity": propensity} for one, x, propensity in candidates],
        "same_for_all": found.shared,
        "unknown_values": found.unknown,
    }


def _print_preview(policy: "Policy", decision: "Example", found: "Preview") -> None:
    """Print a table with a row for each feature and a column for each candidate, then what to know about it."""
    candidates = [
        Column(printable(one.id), lambda row, place=place: f"{round(row['values'][place], 6):.6g}", is_number=True)  # type: ignore[misc]
        for place, one in enumerate(decision.candidates)
    ]
    rows = [
        {"name": label, "values": values}
        for label, values in zip(policy.features.labels, zip(*found.x, strict=True), strict=True)
    ]
    rows.append({"name": "propensity", "values": found.propensities})
    print_records(rows, [Column("feature", lambda row: row["name"], is_whole=True), *candidates])
    if found.shared and len(decision.candidates) > 1:
        typer.echo(f"# the same for all of these candidates: {', '.join(found.shared)}")
    for name, count in found.unknown.items():
        typer.echo(f"# {name}: {count} of {len(decision.candidates)} candidates have a value that is not listed")


app.command()(warm)
