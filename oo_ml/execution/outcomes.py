"""What a service says of one command: its result, or the error that it is refused with."""

from collections.abc import Sequence
from typing import TypeVar

from oo_ml.errors import OoMlError

Result = TypeVar("Result")


def only(outcomes: Sequence[Result | OoMlError]) -> Result:
    """Return the result of a batch of one.

    Raises:
        OoMlError: the command was refused.
    """
    [outcome] = outcomes
    if isinstance(outcome, OoMlError):
        raise outcome
    return outcome
