"""The prompt registry: publish, list, show, retire. What is published never changes and can always be rendered."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from oo_ml import templates
from oo_ml.errors import InvalidTemplateError, OoMlError, PromptVersionExistsError, UnknownPromptVersionError
from oo_ml.storage import prompts
from oo_ml.storage.prompts import PromptVersion


def listing(connection: Connection, _: Sequence[None]) -> list[list[PromptVersion]]:
    """Return every version, retired ones included, the oldest first."""
    return [prompts.listing(connection)]


def show(connection: Connection, versions: Sequence[str]) -> list[PromptVersion | OoMlError]:
    """Return each version asked for."""
    found = prompts.find(connection, versions)
    return [found.get(version) or _unknown(version) for version in versions]


def draft(
    *, version: str, description: str, system_template: str, user_template: str, published_at: datetime
) -> PromptVersion:
    """Return a version as it will stand once published: active, with the same weight as every other."""
    return PromptVersion(
        version=version,
        status="active",
        weight=1.0,
        published_at=published_at,
        retired_at=None,
        description=description,
        system_template=system_template,
        user_template=user_template,
    )


def publish(connection: Connection, drafts: Sequence[PromptVersion]) -> list[PromptVersion | OoMlError]:
    """Write down new versions. One whose name is taken, or whose templates can't be rendered, is refused."""
    return [_publish(connection, draft) for draft in drafts]


def retire(connection: Connection, versions: Sequence[str], *, retired_at: datetime) -> list[PromptVersion | OoMlError]:
    """Take versions out of use for new generations; retiring one twice changes nothing."""
    for version in versions:
        prompts.retire(connection, version, retired_at)
    return show(connection, versions)


def _publish(connection: Connection, draft: PromptVersion) -> PromptVersion | OoMlError:
    for name, source in (("system_template", draft.system_template), ("user_template", draft.user_template)):
        try:
            templates.check(source)
        except InvalidTemplateError as error:
            return InvalidTemplateError(f"{name}: {error.message}")
    if not prompts.insert(connection, draft):
        return PromptVersionExistsError(
            f"Prompt version {draft.version} is published already; a published version never changes"
        )
    return draft


def _unknown(version: str) -> UnknownPromptVersionError:
    return UnknownPromptVersionError(f"Unknown prompt_version: {version}")
