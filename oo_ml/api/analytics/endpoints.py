"""Reports, as JSON and as CSV, and the decisions of a user."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from oo_ml.api.access.scopes import needs
from oo_ml.api.analytics import schemas
from oo_ml.api.bodies import answer, page_of
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.openapi import documented
from oo_ml.api.paging import DecisionPaging, Paging
from oo_ml.api.paths import REFUSALS, UserIdInPath
from oo_ml.api.schemas import Answer, Page
from oo_ml.domain.access import Scope
from oo_ml.errors import InvalidRequestError, UnknownPolicyError, UnreadablePolicyError
from oo_ml.services.analytics.reports import (
    DecisionsCommand,
    Filters,
    Report,
    ReportCommand,
    list_decisions,
    read_choices,
    read_reports,
)
from oo_ml.services.paging import Found, PageCommand

router = APIRouter(tags=["analytics"], dependencies=[KNOWN_PARAMETERS_ONLY])

# A cell that begins with one is a formula to a spreadsheet; the last four are =+-@ in full width.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class _Shape:
    """Entry of a report in the OpenAPI document."""

    summary: str
    row: type[Answer]
    page: type[Page[Any]]


_SHAPES: Final = {
    Report.REACTION_RATES: _Shape(
        "Get reaction rates by prompt version or policy", schemas.ReactionRates, schemas.ReactionRatesPage
    ),
    Report.POLICY_VALUES: _Shape(
        "Get the mean reward of policies, and of drawing at random", schemas.PolicyValues, schemas.PolicyValuesPage
    ),
    Report.POLICY_LIFT: _Shape(
        "Get the lift of policies over the hold-out", schemas.PolicyLift, schemas.PolicyLiftPage
    ),
    Report.POLICY_TRAFFIC_BY_DAY: _Shape(
        "Get the share of the traffic by day and policy", schemas.PolicyTrafficByDay, schemas.PolicyTrafficByDayPage
    ),
    Report.REWARDS_BY_DAY: _Shape(
        "Get the mean reward by day, explored and not", schemas.RewardsByDay, schemas.RewardsByDayPage
    ),
    Report.LEARNING_CURVE: _Shape(
        "Get the mean reward of users' nth decision", schemas.LearningCurve, schemas.LearningCurvePage
    ),
    Report.PRIOR_HISTORY: _Shape(
        "Get the versions of the priors that users share", schemas.PriorHistory, schemas.PriorHistoryPage
    ),
    Report.LEARNING_BY_PRIOR: _Shape(
        "Get the mean reward of users' first decisions by prior version",
        schemas.LearningByPrior,
        schemas.LearningByPriorPage,
    ),
    Report.PROMPT_COSTS: _Shape("Get the costs of prompt versions", schemas.PromptCosts, schemas.PromptCostsPage),
    Report.LOOP_HEALTH: _Shape(
        "Get the health of the loop of decision and reward", schemas.LoopHealth, schemas.LoopHealthPage
    ),
}


def _add_routes(which: Report) -> None:
    """Add a report: a page of it as JSON, and the whole of it as CSV."""
    path, shape = f"/analytics/{which}", _SHAPES[which]
    paged = schemas.PagedRatesSelection if which is Report.REACTION_RATES else schemas.PagedSelection
    whole = schemas.RatesSelection if which is Report.REACTION_RATES else schemas.Selection

    async def page(request: Request, selection: schemas.PagedSelection) -> Response:
        found = await _found(request, which, selection, PageCommand(selection.limit, selection.cursor or 0))
        return answer(page_of(shape.page, found))

    async def table(request: Request, selection: schemas.Selection) -> Response:
        found = await _found(request, which, selection)
        return _csv(which, [shape.row.model_validate(row).model_dump(mode="json") for row in found.rows])

    page.__annotations__["selection"] = Annotated[paged, Query()]
    table.__annotations__["selection"] = Annotated[whole, Query()]
    said = f"{shape.row.__doc__} The same path with `.csv` at its end returns every row as CSV."
    told = documented(f"get{shape.row.__name__}", Scope.READ, gives=shape.page, raises=(InvalidRequestError, *DATABASE))
    router.get(path, summary=shape.summary, description=said, **told)(page)
    router.get(f"{path}.csv", include_in_schema=False, dependencies=[needs(Scope.READ)])(table)


async def _found(
    request: Request, which: Report, selection: schemas.Selection, page: PageCommand | None = None
) -> Found[Mapping[str, Any], int]:
    await _check_policy(request, selection.policy)
    filters = Filters(**selection.model_dump(exclude=set(Paging.model_fields)))
    [found] = await services(request).readers.run(read_reports, [ReportCommand(which, filters, page)])
    return found


async def _check_policy(request: Request, name: str | None) -> None:
    """Refuse a policy that was never published: a misspelled name would look like a policy without decisions."""
    if name is None:
        return
    try:
        await services(request).policies.find(name)
    except UnreadablePolicyError:
        # It was published, by a later release.
        return
    except UnknownPolicyError:
        problem = {"loc": ("query", "policy"), "msg": "no published policy has this name", "type": "unknown_policy"}
        raise RequestValidationError([problem]) from None


def _csv(which: Report, rows: list[dict[str, Any]]) -> Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_SHAPES[which].row.model_fields), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{which}.csv"'}
    return Response(text.getvalue(), headers=headers, media_type="text/csv")


def _cell(value: object) -> object:
    """Return a value as a cell that no spreadsheet runs as a formula; numbers stay numbers.

    The apostrophe and the list of characters are those that OWASP recommends against CSV injection.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


for _report in Report:
    _add_routes(_report)


@router.get(
    "/analytics/filters",
    summary="Get the values of the filters",
    **documented("getFilters", Scope.READ, gives=schemas.ChoicesAnswer, raises=(InvalidRequestError, *DATABASE)),
)
async def filters_of(request: Request) -> Response:
    """Return the policies, prompt versions and days of the decisions so far."""
    [found] = await services(request).readers.run(read_choices, [None])
    return answer(schemas.ChoicesAnswer.model_validate(found, from_attributes=True))


@router.get(
    "/users/{user_id}/decisions",
    tags=["users"],
    summary="List a user's decisions",
    **documented("listDecisions", Scope.READ, gives=schemas.DecisionsPage, raises=REFUSALS),
)
async def decisions_of(request: Request, user_id: UserIdInPath, paging: Annotated[DecisionPaging, Query()]) -> Response:
    """Return a user's decisions, the latest first, including those before a reset."""
    command = DecisionsCommand(user_id, paging.cursor, paging.limit)
    [found] = await services(request).readers.run(list_decisions, [command])
    return answer(page_of(schemas.DecisionsPage, found))
