"""/analytics: the numbers of the dashboard, as JSON and as CSV; and a person's decisions one by one."""

import csv
import io
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from oo_ml.api.bodies import answer, documented
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.paths import PROBLEMS, EncodedUserId, decode_user_id
from oo_ml.api.schemas.analytics import (
    ChoicesAnswer,
    DecisionsAnswer,
    DecisionSummary,
    Grouping,
    LearningCurve,
    LoopHealth,
    PageAnswer,
    PagedRatesSelection,
    PagedSelection,
    PromptCosts,
    RatesSelection,
    ReactionRates,
    RewardsByDay,
    Selection,
)
from oo_ml.services.analytics import DecisionsCommand, ReportCommand, choices, decisions, report
from oo_ml.storage.analytics import Filters, Page, Report

router = APIRouter(tags=["analytics"], dependencies=[KNOWN_PARAMETERS_ONLY])

_PROBLEMS: Final = {422: "A filter makes no sense", 503: "The database can't say now; try again"}
_ROWS: Final[dict[Report, type[BaseModel]]] = {
    Report.REACTION_RATES: ReactionRates,
    Report.REWARDS_BY_DAY: RewardsByDay,
    Report.LEARNING_CURVE: LearningCurve,
    Report.PROMPT_COSTS: PromptCosts,
    Report.LOOP_HEALTH: LoopHealth,
}
# A cell that begins with one is a formula to a spreadsheet; the last four are =+-@ in full width.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_SUMMARIES: Final = {
    Report.REACTION_RATES: "How people reacted, by prompt version or policy",
    Report.REWARDS_BY_DAY: "Mean reward by day, explored and not",
    Report.LEARNING_CURVE: "Mean reward of people's nth decision",
    Report.PROMPT_COSTS: "What each prompt version costs",
    Report.LOOP_HEALTH: "Whether the loop of decision and reward is sound",
}


def _add_routes(which: Report) -> None:
    """Add a report: a page of it as JSON, and the whole of it as CSV."""
    path, row = f"/analytics/{which}", _ROWS[which]
    paged = PagedRatesSelection if which is Report.REACTION_RATES else PagedSelection
    whole = RatesSelection if which is Report.REACTION_RATES else Selection

    async def page(request: Request, selection: PagedSelection) -> Response:
        found = await _found(request, which, selection, selection.limit, selection.offset)
        items = [row.model_validate(item) for item in found.rows]
        return answer(PageAnswer[row](items=items, total=found.total, limit=selection.limit, offset=selection.offset))  # type: ignore[valid-type]

    async def table(request: Request, selection: Selection) -> Response:
        found = await _found(request, which, selection, None, 0)
        return _csv(which, [row.model_validate(item).model_dump(mode="json") for item in found.rows])

    page.__annotations__["selection"] = Annotated[paged, Query()]
    table.__annotations__["selection"] = Annotated[whole, Query()]
    gives: Any = PageAnswer[row]  # type: ignore[valid-type]
    said = f"{row.__doc__} The path with `.csv` at its end gives every row as CSV."
    router.get(path, summary=_SUMMARIES[which], description=said, **documented(None, gives, _PROBLEMS))(page)
    router.get(f"{path}.csv", include_in_schema=False)(table)


async def _found(request: Request, which: Report, selection: Selection, limit: int | None, offset: int) -> Page:
    filters = Filters(
        since=selection.since,
        until=selection.until,
        policy=selection.policy,
        prompt_version=selection.prompt_version,
        by=selection.by if isinstance(selection, Grouping) else "prompt_version",
    )
    [found] = await services(request).readers.run(report, [ReportCommand(which, filters, limit, offset)])
    return found


def _csv(which: Report, rows: list[dict[str, Any]]) -> Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_ROWS[which].model_fields), lineterminator="\r\n")
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


@router.get("/analytics/filters", summary="What there is to filter by", **documented(None, ChoicesAnswer, _PROBLEMS))
async def filters_of(request: Request) -> Response:
    """Return the policies, prompt versions and days that there are decisions of."""
    [found] = await services(request).readers.run(choices, [None])
    return answer(ChoicesAnswer.model_validate(found, from_attributes=True))


@router.get(
    "/users/{user_id}/decisions",
    tags=["people"],
    summary="A person's decisions",
    **documented(None, DecisionsAnswer, PROBLEMS),
)
async def decisions_of(
    request: Request,
    user_id: EncodedUserId,
    before: Annotated[UUID | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Return a person's decisions since the first, resets notwithstanding, the latest first."""
    name = decode_user_id(user_id)
    [found] = await services(request).readers.run(decisions, [DecisionsCommand(name, before, limit)])
    rows = [DecisionSummary.model_validate(row) for row in found.rows]
    return answer(DecisionsAnswer(user_id=name, decisions=rows, next=found.next))
