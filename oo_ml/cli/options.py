"""Options that several commands share."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from oo_ml.domain.identifiers import is_policy_name, is_user_id


def user_id(text: str | None) -> str | None:
    """Return the id of an option, if the option is given.

    Raises:
        BadParameter: the id is invalid.
    """
    if text is not None and not is_user_id(text):
        raise typer.BadParameter("the service accepts no such id")
    return text


def policy_name(text: str | None) -> str | None:
    """Return the name of a policy, if it is given.

    Raises:
        BadParameter: no policy can have this name.
    """
    if text is not None and not is_policy_name(text):
        raise typer.BadParameter("must be 1 to 100 letters, digits, '.', '_' and '-', the first a letter or digit")
    return text


def policy_names(texts: list[str] | None) -> list[str] | None:
    """Return the names of policies, if they are given.

    Raises:
        BadParameter: no policy can have one of these names.
    """
    for text in texts or ():
        policy_name(text)
    return texts


def _moment(text: str) -> datetime:
    """Return the time of an option, in UTC; a time without an offset is UTC.

    Raises:
        BadParameter: it is no date or time.
    """
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("must be a date or time in ISO 8601: 2026-11-23, 2026-11-23T12:00+01:00") from None


Since = Annotated[
    datetime | None, typer.Option(metavar="TIME", help="Only decisions from this time on; UTC", parser=_moment)
]
Until = Annotated[
    datetime | None, typer.Option(metavar="TIME", help="Only decisions before this time; UTC", parser=_moment)
]


def refuse_empty_period(since: datetime | None, until: datetime | None) -> None:
    """Check that --since is before --until, if both are given.

    Raises:
        BadParameter: no time is in the period.
    """
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("--since must be before --until")
