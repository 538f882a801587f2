"""Options that several commands share."""

import typer

from oo_ml.domain.identifiers import is_user_id


def user_id(text: str | None) -> str | None:
    """Return the id of an option, if the option is given.

    Raises:
        BadParameter: the id is invalid.
    """
    if text is not None and not is_user_id(text):
        raise typer.BadParameter("the service accepts no such id")
    return text
