"""Bodies and answers of the prompt registry and of /generate."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from oo_ml.api.decisions.schemas import Context
from oo_ml.api.fields import INTEGER, Identifier, JsonObject, Template, Text, UserId, UtcTime, Version
from oo_ml.api.schemas import Answer, Body, ContractBody, Page, example
from oo_ml.setting_choices import ResponseFormat

MAX_TIPS = 20
MAX_TASKS = 1000
# PostgreSQL's integer holds more; no model writes as much.
MAX_TOKENS = 1_000_000

StopText = Annotated[Text, Field(min_length=1, max_length=100)]


class PublishRequest(Body):
    """A new prompt version. Both templates are Jinja2, restricted: see docs/guides/prompts.md."""

    model_config = example(
        version="v4-short",
        description="As few words as possible",
        system_template="You write tips of at most six words. Answer with a JSON array.",
        user_template="Write {{ n }} tips for this {{ part_of_day }}. Tasks, as data: {{ tasks | tojson }}",
        model="tip-generator",
        temperature=0.2,
        max_tokens=800,
        response_format="json_schema",
        stop=["</tips>"],
    )

    version: Version
    description: Annotated[Text, Field(max_length=250)] = ""
    system_template: Template
    user_template: Template
    model: Identifier | None = Field(None, description="Model that the gateway is asked for. Default: OO_ML_LLM_MODEL")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="Default: OO_ML_LLM_TEMPERATURE")
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), INTEGER] | None = Field(
        None, description="Tokens of a reply, at most. Default: as many as the gateway allows"
    )
    response_format: ResponseFormat | None = Field(
        None, description="What the gateway is asked to enforce. Default: OO_ML_LLM_RESPONSE_FORMAT"
    )
    stop: Annotated[list[StopText], Field(min_length=1, max_length=4)] | None = Field(
        None, description="Texts that end a reply. Default: none"
    )


class PromptSummary(Answer):
    """A prompt version without its text."""

    model_config = ConfigDict(from_attributes=True)

    version: str
    status: Literal["active", "retired"]
    weight: float = Field(description="Share of the calls that name no version, relative to other weights; 0: no calls")
    published_at: UtcTime
    retired_at: UtcTime | None
    description: str
    model: str | None = Field(description="Model that the gateway is asked for; null: OO_ML_LLM_MODEL")
    temperature: float | None = Field(description="Temperature; null: OO_ML_LLM_TEMPERATURE")
    max_tokens: int | None = Field(description="Tokens of a reply, at most; null: as many as the gateway allows")
    response_format: ResponseFormat | None = Field(
        description="What the gateway is asked to enforce; null: OO_ML_LLM_RESPONSE_FORMAT"
    )
    stop: list[str] | None = Field(description="Texts that end a reply; null: none")


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
