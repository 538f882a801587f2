"""What the prompt registry takes and gives."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from oo_ml.api.fields import Template, Text, UtcTime, Version
from oo_ml.api.schemas import Answer, Body, Page


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
    weight: float = Field(description="Share of the calls that name no version, relative to the others; 0: none")
    published_at: UtcTime
    retired_at: UtcTime | None
    description: str


class PromptAnswer(PromptSummary):
    """A prompt version."""

    system_template: str
    user_template: str


class PromptsPage(Page[PromptSummary]):
    """Prompt versions, the oldest first."""
