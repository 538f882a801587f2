"""Raw features of decisions in answers."""

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from oo_ml.api.schemas import Answer


class Moment(Answer):
    """Time of a decision, in the user's time zone."""

    hour_of_day: int
    day_of_week: int


class TaskDescription(Answer):
    """The task behind a candidate."""

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
