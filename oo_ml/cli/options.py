"""What options of several commands have in common."""

import typer

from oo_ml.domain.identifiers import is_user_id


def user_id(text: str | None) -> str | None:
    """Return what was given, if anything was.

    Raises:
        BadParameter: no call could have been made for such an id.
    """
    if text is not None and not is_user_id(text):
        raise typer.BadParameter("the service accepts no such id")
    return text
