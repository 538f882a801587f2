"""Import of the file-based service's states: each state begins an epoch, in one transaction for each user.

A newer state is never overwritten, and the owner of a file is never guessed. A second import of the same files changes
nothing, so an interrupted import can be run again.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from oo_ml.domain.identifiers import is_user_id
from oo_ml.execution import retry
from oo_ml.files import legacy_names, legacy_state
from oo_ml.files.legacy_state import FileState, Listing, StateFileError
from oo_ml.settings import Settings
from oo_ml.storage.policy_state import PolicyState, StateKey, lock_or_create_states, read_states, save_states
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.reward_ledger import find_unused_imports, insert_imports

_NAMED: Final = 5


class Verdict(StrEnum):
    """Result for a file."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    KEPT = "kept newer"
    BAD = "bad"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result for a file or a command, with the reason."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ImportCommand:
    """Import of a state for a user, unless the user has a newer one."""

    user_id: str
    state: FileState


@dataclass(frozen=True, slots=True)
class Source:
    """Directory of states.

    Attributes:
        ids: the user ids by NAME of a file; None without a list of users.
    """

    directory: Path
    listing: Listing
    ids: Mapping[str, Sequence[str]] | None


def import_states(connection: Writing, commands: Sequence[ImportCommand], *, imported_at: datetime) -> list[Outcome]:
    """Begin an epoch with each state that is newer than the stored one, and add a ledger entry with the state."""
    keys = [StateKey(command.user_id, command.state.policy) for command in commands]
    fresh = {key: command.state.evidence.fresh() for key, command in zip(keys, commands, strict=True)}
    current = lock_or_create_states(connection, fresh)
    outcomes, started = _start(current, find_unused_imports(connection, keys), commands)
    if started:
        save_states(connection, list({state.key: state for state in started}.values()))
        insert_imports(connection, started, imported_at)
    return outcomes


def preview(connection: Reading, commands: Sequence[ImportCommand]) -> list[Outcome]:
    """Return the outcomes that import_states would have; lock nothing and write nothing."""
    keys = [StateKey(command.user_id, command.state.policy) for command in commands]
    current = {
        key: read_states(connection, key.user_id).get(key.policy) or PolicyState(key, command.state.evidence.fresh())
        for key, command in zip(keys, commands, strict=True)
    }
    outcomes, _ = _start(current, find_unused_imports(connection, keys), commands)
    return outcomes


def find_source(directory: Path, users: Path | None) -> Source:
    """Find the states to import.

    Raises:
        ImportSourceError: The list of users cannot be read.
    """
    listing = legacy_state.list_files(directory)
    if users is None:
        return Source(directory, listing, None)
    stems = map(legacy_state.get_stem, listing.files)
    return Source(directory, listing, legacy_names.index_ids(legacy_state.read_users(users), stems))


def list_refused(source: Source) -> Iterator[tuple[str, Outcome]]:
    """Yield files and user ids that are refused before any file is read, each with the reason."""
    for file, reason in source.listing.refused:
        yield file, Outcome(Verdict.BAD, reason)
    for user_id in (user_id for ids in (source.ids or {}).values() for user_id in ids):
        if not is_user_id(user_id):
            yield repr(user_id), Outcome(Verdict.BAD, "listed, but the service accepts no such id")


def import_files(
    engine: Engine, settings: Settings, source: Source, *, imported_at: datetime, dry_run: bool = False
) -> Iterator[list[tuple[str, Outcome]]]:
    """Import every file; yield the outcomes of a user's files after their COMMIT, and each refused file alone.

    Raises:
        UnavailableError: The database is unavailable. The users yielded so far are imported.
    """
    service = preview if dry_run else partial(import_states, imported_at=imported_at)
    for files in _group_files(source.listing.files):
        commands: dict[str, dict[str, ImportCommand]] = {}
        for file in files:
            command = _build_command(source, file)
            if isinstance(command, Outcome):
                yield [(file, command)]
            else:
                commands.setdefault(command.user_id, {})[file] = command
        for of_user in commands.values():
            deadline = time.monotonic() + settings.request_timeout
            outcomes = retry.run(engine, service, list(of_user.values()), deadline)
            yield list(zip(of_user, outcomes, strict=True))


def _group_files(files: Iterable[str]) -> Collection[Sequence[str]]:
    """Group files that may belong to one user: NAME.json and NAME_egreedy.json, also if the NAME ends in _egreedy.

    The owner of a file is known only after reading it, and the files of all users do not fit into memory.
    """
    groups: dict[str, list[str]] = {}
    for file in files:
        name = legacy_state.get_stem(file)
        while name.endswith(legacy_state.EPSILON_GREEDY_SUFFIX):
            name = name.removesuffix(legacy_state.EPSILON_GREEDY_SUFFIX)
        groups.setdefault(name, []).append(file)
    return groups.values()


def _build_command(source: Source, file: str) -> ImportCommand | Outcome:
    try:
        state = legacy_state.read(source.directory, file)
    except StateFileError as error:
        return Outcome(Verdict.BAD, str(error))
    owners = legacy_names.find_owners(state.name, source.ids)
    if len(owners) > 1:
        return Outcome(Verdict.AMBIGUOUS, f"{state.policy} of {_join_ids(owners)}")
    if not owners:
        missing = "no such id is listed" if source.ids is not None else "its id can't be told without --users"
        return Outcome(Verdict.UNKNOWN, f"{state.policy} of the name {state.name!r}: {missing}")
    [user_id] = owners
    if not is_user_id(user_id):
        return Outcome(Verdict.BAD, f"{state.policy} of {user_id!r}: the service accepts no such id")
    return ImportCommand(user_id, state)


def _join_ids(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return "either of " + ", ".join(map(repr, ids[:_NAMED])) + more


def _start(
    current: Mapping[StateKey, PolicyState], only_imported: Iterable[StateKey], commands: Sequence[ImportCommand]
) -> tuple[list[Outcome], list[PolicyState]]:
    """Judge each command in turn; return the outcomes, and the states that begin an epoch."""
    states_now, replaceable = dict(current), set(only_imported)
    outcomes, started = [], []
    for command in commands:
        key = StateKey(command.user_id, command.state.policy)
        outcome = _judge(states_now[key], command.state, replaceable=key in replaceable)
        if outcome.verdict is Verdict.IMPORTED:
            epoch = states_now[key].epoch + 1 if key in replaceable else 0
            states_now[key] = _build_start(key, epoch, command.state)
            replaceable.add(key)
            started.append(states_now[key])
        outcomes.append(outcome)
    return outcomes, started


def _judge(here: PolicyState, file: FileState, *, replaceable: bool) -> Outcome:
    if here.epoch == here.version == here.pulls == 0:
        # This transaction created the row: any other transaction that creates a row also decides or learns in it.
        return Outcome(Verdict.IMPORTED)
    if not replaceable:
        return Outcome(Verdict.KEPT, f"{file.policy} of {here.key.user_id!r} has gone on here")
    if _is_same(here, _build_start(here.key, here.epoch, file)):
        return Outcome(Verdict.UNCHANGED)
    if file.last_updated is None or (here.last_updated is not None and file.last_updated <= here.last_updated):
        return Outcome(Verdict.KEPT, f"{file.policy} of {here.key.user_id!r} was imported from a file that is no older")
    return Outcome(Verdict.IMPORTED)


def _build_start(key: StateKey, epoch: int, file: FileState) -> PolicyState:
    return PolicyState(
        key=key,
        evidence=file.evidence,
        epoch=epoch,
        version=1,
        pulls=file.pulls,
        explore_count=file.explore_count,
        reward_count=file.reward_count,
        cumulative_reward=file.cumulative_reward,
        last_updated=file.last_updated,
    )


def _is_same(here: PolicyState, there: PolicyState) -> bool:
    return (
        here.evidence.A.tobytes() == there.evidence.A.tobytes()
        and here.evidence.b.tobytes() == there.evidence.b.tobytes()
        and replace(here, evidence=there.evidence) == there
    )
