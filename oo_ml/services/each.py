"""Services whose commands do not depend on each other: a function of one command becomes a function of a batch."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec

from oo_ml.execution.retry import Command, Outcome
from oo_ml.storage.postgres.sessions import Session

Options = ParamSpec("Options")


def each(
    one: Callable[Concatenate[Session, Command, Options], Outcome],
) -> Callable[Concatenate[Session, Sequence[Command], Options], list[Outcome]]:
    """Return the service that runs `one` on each command of a batch, in order, and returns the outcomes."""

    @wraps(one)
    def service(
        connection: Session, commands: Sequence[Command], /, *arguments: Options.args, **options: Options.kwargs
    ) -> list[Outcome]:
        return [one(connection, command, *arguments, **options) for command in commands]

    return service
