"""Bodies and answers of the prompt registry and of /generate."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from oo_ml.api.decisions.schemas import Context
from oo_ml.api.fields import INTEGER, Identifier, JsonObject, Template, Text, UserId, UtcTime, Version
from oo_ml.api.schemas import Answer, Body, ContractBody, Page, example

MAX_TIPS = 20
MAX_TASKS = 1000


class PublishRequest(Body):
    """A new prompt version. Both templates are Jinja2, restricted: see docs/guides/prompts.md."""

    version: Version
    description: Annotated[Text, Field(max_length=250)] = ""
    system_template: Template
    user_template: Template


class PromptSummary(Answer):
    """A prompt version without its text."""

    model_config = ConfigDict(from_attributes=True)

    version: str
    status: Literal["active", "retired"]
    weight: float = Field(description="Share of the calls that name no version, relative to other weights; 0: no calls")
    published_at: UtcTime
    retired_at: UtcTime | None
    description: str


class PromptAnswer(PromptSummary):
    """A prompt version."""

    system_template: str
    user_template: str


class PromptsPage(Page[PromptSummary]):
    """Prompt versions, the oldest first."""


class GenerateContext(Context):
    """Context of the user's day, for the model."""

    tasks: list[JsonObject] = Field(
        default_factory=list, max_length=MAX_TASKS, description="The user's tasks, as you store them"
    )
    extra: JsonObject = Field(default_factory=dict, description="Anything else the prompt may use")


class GenerateRequest(ContractBody):
    """Ask the language model for tips."""

    model_config = example(
        user_id="ada",
        context={
            "tasks": [{"content": "Call the dentist", "priority": 4, "is_overdue": True}],
            "hour_of_day": 9,
            "day_of_week": 0,
        },
        n=2,
    )

    user_id: UserId
    context: GenerateContext = GenerateContext()
    n: Annotated[int, Field(ge=1, le=MAX_TIPS, description="Tips wanted"), INTEGER] = 3
    prompt_version: Identifier | None = Field(
        None, description="Default: as TIP_PROMPT_VERSION says, else by the registry's weights"
    )


class GeneratedCandidate(Answer):
    """A tip, ready to be a candidate of /score."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    content: str
    source: Literal["llm"] = "llm"
    rationale: str | SkipJsonSchema[None] = Field(
        None, exclude_if=lambda rationale: rationale is None, description="Left out if the model gave none"
    )


class GenerateAnswer(Answer):
    """The tips, and their cost in tokens."""

    model_config = ConfigDict(from_attributes=True)

    candidates: list[GeneratedCandidate] = Field(validation_alias="tips")
    model: str
    prompt_version: str = Field(description="The version that was used")
    prompt_probability: float = Field(description="The probability with which the version was drawn; 1 if it was named")
    prompt_tokens: int
    completion_tokens: int
    generation_id: UUID
