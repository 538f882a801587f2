"""The prompt registry: publish, list, show, weight and retire prompt versions.

A published version never changes, and its templates can always be rendered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from oo_ml import templates
from oo_ml.errors import (
    InvalidTemplateError,
    OoMlError,
    PromptVersionExistsError,
    ReservedPromptVersionError,
    RetiredPromptVersionError,
    UnknownPromptVersionError,
)
from oo_ml.services.each import each
from oo_ml.services.paging import Found, PageCommand, by_offset
from oo_ml.settings import AUTO
from oo_ml.storage import prompt_versions
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.prompt_versions import PromptVersion


@dataclass(frozen=True, slots=True)
class WeighCommand:
    """Set the weight of a version, >= 0 and finite. Versions are drawn in proportion to their weights."""

    version: str
    weight: float


@each
def list_versions(connection: Reading, page: PageCommand) -> Found[PromptVersion, int]:
    """Return a page of the versions, retired ones included, the oldest first."""
    return by_offset(prompt_versions.list_all(connection, page.limit + 1, page.offset), page)


def show(connection: Reading, versions: Sequence[str]) -> list[PromptVersion | OoMlError]:
    """Return each version, or the error that it is unknown."""
    found = prompt_versions.find(connection, versions)
    return [found.get(version) or _unknown(version) for version in versions]


def draft(  # noqa: PLR0913 - all that is published
    *,
    version: str,
    description: str,
    system_template: str,
    user_template: str,
    published_at: datetime,
    model: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    response_format: str | None = None,
    stop: Sequence[str] | None = None,
) -> PromptVersion:
    """Build a new version, active and with weight 0, ready to publish."""
    return PromptVersion(
        version=version,
        status="active",
        weight=0.0,
        published_at=published_at,
        retired_at=None,
        description=description,
        system_template=system_template,
        user_template=user_template,
        model=model,
        temperature=temperature,
        max_tokens=max_tokens,
        response_format=response_format,
        stop=tuple(stop) if stop else None,
    )


@each
def publish(connection: Writing, draft: PromptVersion) -> PromptVersion | OoMlError:
    """Store a new version. Refuse a name that is taken, and a template that can't be rendered."""
    if draft.version == AUTO:
        return ReservedPromptVersionError()
    for name, source in (("system_template", draft.system_template), ("user_template", draft.user_template)):
        try:
            templates.check(source)
        except InvalidTemplateError as error:
            return InvalidTemplateError(f"{name}: {error.message}")
    if not prompt_versions.insert(connection, draft):
        return PromptVersionExistsError(
            f"Prompt version {draft.version} is published already; a published version never changes"
        )
    return draft


@each
def weigh(connection: Writing, command: WeighCommand) -> PromptVersion | OoMlError:
    """Set the weight of a version in use; refuse a retired version."""
    is_in_use = prompt_versions.set_weight(connection, command.version, command.weight)
    [shown] = show(connection, [command.version])
    return shown if is_in_use or isinstance(shown, OoMlError) else refuse_retired(command.version)


def retire(connection: Writing, versions: Sequence[str], *, retired_at: datetime) -> list[PromptVersion | OoMlError]:
    """Retire versions: new generations can't use them. Retiring again changes nothing."""
    for version in versions:
        prompt_versions.retire(connection, version, retired_at)
    return show(connection, versions)


def refuse_retired(version: str) -> RetiredPromptVersionError:
    """Return the refusal of a retired version."""
    return RetiredPromptVersionError(f"Retired prompt_version: {version}")


def _unknown(version: str) -> UnknownPromptVersionError:
    return UnknownPromptVersionError(f"Unknown prompt_version: {version}")
