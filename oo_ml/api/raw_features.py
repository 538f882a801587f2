"""Raw features of decisions: those of the contract's policies, as bodies have them and answers show them."""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from oo_ml.api.schemas import Answer
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB


class Moment(Answer):
    """Time of a decision, in the user's time zone."""

    # Other fields are those of another policy, and shown as they are.
    model_config = ConfigDict(extra="forbid")

    hour_of_day: int
    day_of_week: int


class TaskDescription(Answer):
    """The task behind a candidate."""

    # Other fields are those of another policy, and shown as they are.
    model_config = ConfigDict(extra="forbid")

    is_overdue: bool
    task_age_days: float
    priority: int


class ShownFeatures(TaskDescription):
    """The raw features of the tip that was chosen."""

    hour_of_day: int
    day_of_week: int | SkipJsonSchema[None] = Field(
        None, exclude_if=lambda day: day is None, description="Left out for linucb-v1, which does not use the day"
    )
    exploring: bool | SkipJsonSchema[None] = Field(
        None, exclude_if=lambda exploring: exploring is None, description="Drawn at random; left out for linucb-v1"
    )


# As a client sent them, for a policy that is not the contract's.
RawFields = dict[str, Any]


class Task(Protocol):
    """Any object with the fields of a task."""

    @property
    def is_overdue(self) -> bool: ...  # noqa: D102

    @property
    def task_age_days(self) -> float: ...  # noqa: D102

    @property
    def priority(self) -> int: ...  # noqa: D102


def fields_of_moment(hour_of_day: int, day_of_week: int) -> RawFields:
    """Return the context of a decision, as the contract's policies read it."""
    return {"hour_of_day": hour_of_day, "day_of_week": day_of_week}


def fields_of_task(task: Task) -> RawFields:
    """Return the features of a candidate, as the contract's policies read them."""
    return {"is_overdue": task.is_overdue, "task_age_days": task.task_age_days, "priority": task.priority}


def show_features(
    policy: str, context: Mapping[str, Any], features: Mapping[str, Any], *, exploring: bool
) -> RawFields:
    """Return the raw features of a chosen tip as answers show them: the contract says which, for its policies."""
    if policy == LINUCB:
        return {**{name: value for name, value in context.items() if name != "day_of_week"}, **features}
    if policy == EPSILON_GREEDY:
        return {**context, **features, "exploring": exploring}
    return {**context, **features}
