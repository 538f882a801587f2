"""The log of administrative actions: who did what, when. An entry is written in the transaction of its action."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import uuid_utils.compat as uuid_utils

from oo_ml.domain.access import COMMAND_LINE, Caller
from oo_ml.errors import OoMlError
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.storage import audit_log
from oo_ml.storage.audit_log import AuditEntry
from oo_ml.storage.postgres.sessions import Reading, Writing


@dataclass(frozen=True, slots=True)
class Action:
    """An administrative action of a caller.

    Attributes:
        name: noun and verb, such as `user.erased`.
        happened_at: its time.
        request_id: the id of the request, if there was one.
    """

    name: str
    caller: Caller
    happened_at: datetime
    request_id: str | None = None

    def entry(self, subject: str | None = None) -> AuditEntry:
        """Return the entry for this action on a key or prompt version; None for a user, whose id is not kept."""
        return AuditEntry(uuid_utils.uuid7(), self.happened_at, self.caller.key_id, self.request_id, self.name, subject)


def audited(
    service: Service[Command, Outcome], action: Action, subject_of: Callable[[Command], str | None] | None = None
) -> Service[Command, Outcome]:
    """Return `service`, followed by an entry for each command that was not refused, in the same transaction.

    Args:
        service: the service.
        action: the action of the call.
        subject_of: returns the subject of a command; None if the subjects are users.
    """

    def run(connection: Writing, commands: Sequence[Command]) -> Sequence[Outcome]:
        outcomes = service(connection, commands)
        done = [one for one, outcome in zip(commands, outcomes, strict=True) if not isinstance(outcome, OoMlError)]
        audit_log.append(connection, [action.entry(subject_of(one) if subject_of else None) for one in done])
        return outcomes

    return run


def audited_command(
    service: Service[Command, Outcome], name: str, subject_of: Callable[[Command], str | None] | None = None
) -> Service[Command, Outcome]:
    """Return `service` with entries as `audited` writes them, for the action `name` of the command line."""
    return audited(service, Action(name, COMMAND_LINE, datetime.now(UTC)), subject_of)


def record(connection: Writing, actions: Sequence[Action]) -> list[None]:
    """Log actions on users that read only: before the user's data leaves, in a transaction of their own."""
    audit_log.append(connection, [action.entry() for action in actions])
    return [None] * len(actions)


def list_latest(connection: Reading, limits: Sequence[int]) -> list[list[AuditEntry]]:
    """Return, for each limit, at most so many entries, the latest first."""
    return [audit_log.list_latest(connection, limit) for limit in limits]
