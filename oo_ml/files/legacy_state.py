"""States of the file-based service, one file for each user and policy.

Numbers keep every bit. A state that could break decisions is refused, in one line with the place and the reason.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.domain.ridge import Ridge, theta
from oo_ml.errors import ImportSourceError
from oo_ml.files.legacy_names import is_name

EXTENSION: Final = ".json"
EPSILON_GREEDY_SUFFIX: Final = "_egreedy"
# A 7 x 7 state with every digit of every number, indented, is 3 kB.
MAX_STATE_BYTES: Final = 65_536
# Of the largest element. The predecessor's own sums are symmetric to the bit.
SYMMETRY_TOLERANCE: Final = 1e-9
# Counters go on from here, and this is where floating point stops counting in ones.
_MOST: Final = 2**53
# A is I and a sum of squares: none of its eigenvalues is smaller than I's.
_SMALLEST_EIGENVALUE: Final = 1 - 1e-6
_POLICIES: Final[Mapping[int, str]] = {5: LINUCB, 7: EPSILON_GREEDY}


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries of a directory.

    Attributes:
        files: names of the files to read, sorted.
        refused: entries that are named like a state but cannot be one, each with the reason.
        ignored: the number of other entries.
    """

    files: Sequence[str]
    refused: Sequence[tuple[str, str]]
    ignored: int


@dataclass(frozen=True, slots=True, eq=False)
class FileState:
    """One file's state.

    Attributes:
        name: the user's id with every non-alphanumeric character replaced by `_`.
        evidence: A, shape (d, d), symmetric positive definite, and b, shape (d,), with the d of `policy`.
        last_updated: in UTC.
    """

    name: str
    policy: str
    evidence: Evidence
    pulls: int
    explore_count: int
    reward_count: int
    cumulative_reward: float
    last_updated: datetime | None


class StateFileError(ValueError):
    """A file holds no usable state. The message says why."""


def list_files(directory: Path) -> Listing:
    """List the entries of `directory`, without those of its subdirectories."""
    files, refused, ignored = [], [], 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.endswith(EXTENSION) or entry.name.startswith("."):
                ignored += 1
            elif not entry.is_file(follow_symlinks=False):
                refused.append((entry.name, "a symbolic link" if entry.is_symlink() else "not a regular file"))
            elif not is_name(get_stem(entry.name)):
                refused.append((entry.name, "not a name that the file-based service gives to a file"))
            else:
                files.append(entry.name)
    return Listing(sorted(files), sorted(refused), ignored)


def get_stem(file: str) -> str:
    """Return a file's name without its extension."""
    return file.removesuffix(EXTENSION)


def read_users(path: Path) -> list[str]:
    """Return the ids listed in a file, one a line, each once; spaces around an id are part of it.

    Raises:
        ImportSourceError: it can't be read, or isn't UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ImportSourceError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ImportSourceError(f"{path} is not UTF-8 (byte {error.start})") from error
    # Not splitlines(): an id may hold what Unicode, but no operating system, calls the end of a line.
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return list(dict.fromkeys(line for line in lines if line.strip()))


def read(directory: Path, file: str) -> FileState:
    """Return the state in a file.

    NAME.json and NAME_egreedy.json hold two policies of the user NAME. But NAME_egreedy.json can also hold linucb-v1
    of a user NAME_egreedy. The size of the matrix tells which.

    Raises:
        StateFileError: it can't be read, is no state, or would break decisions.
    """
    content = _parse(_read_bytes(directory / file))
    policy = _POLICIES[len(content.b)]
    name = get_stem(file)
    if policy == EPSILON_GREEDY:
        if not name.endswith(EPSILON_GREEDY_SUFFIX):
            raise StateFileError(f"A is 7 x 7, but a file of this name holds {LINUCB}, 5 x 5")
        name = name.removesuffix(EPSILON_GREEDY_SUFFIX)
    evidence = Evidence(np.array(content.A, np.float64), np.array(content.b, np.float64))
    _check(Ridge(evidence.A, evidence.b))
    meta = content.meta
    return FileState(
        name=name,
        policy=policy,
        evidence=evidence,
        pulls=meta.pulls,
        explore_count=_explore_count(meta, policy),
        reward_count=meta.reward_count,
        cumulative_reward=meta.cumulative_reward,
        last_updated=meta.last_updated,
    )


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise PydanticCustomError("time", "Input should be an ISO 8601 time, seconds since 1970, or null")


_Count = Annotated[int, Field(ge=0, le=_MOST)]
_CONFIG = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class _Meta(BaseModel):
    model_config = _CONFIG

    pulls: _Count
    reward_count: _Count
    cumulative_reward: float
    explore_count: _Count | None = None
    last_updated: Annotated[datetime | None, BeforeValidator(_time)]


class _Content(BaseModel):
    model_config = _CONFIG

    A: list[list[float]]
    b: list[float]
    meta: _Meta

    @model_validator(mode="after")
    def _dimensions_fit(self) -> Self:
        d = len(self.b)
        if d not in _POLICIES:
            raise PydanticCustomError("dimension", "b has {d} numbers; a state has 5 or 7", {"d": d})
        if len(self.A) != d or any(len(row) != d for row in self.A):
            raise PydanticCustomError("dimension", "A is not {d} x {d}, as b is", {"d": d})
        return self


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_STATE_BYTES + 1)
    except OSError as error:
        raise StateFileError(f"can't be read: {error.strerror}") from error
    if len(content) > MAX_STATE_BYTES:
        raise StateFileError(f"larger than {MAX_STATE_BYTES} bytes")
    return content


def _parse(content: bytes) -> _Content:
    try:
        return _Content.model_validate_json(content.decode())
    except UnicodeDecodeError as error:
        raise StateFileError(f"not UTF-8 (byte {error.start})") from error
    except ValidationError as error:
        raise StateFileError(_reason(error.errors()[0])) from error


def _reason(problem: ErrorDetails) -> str:
    if not problem["loc"]:
        return problem["msg"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    return f"{where.removeprefix('.')}: {problem['msg']}"


def _explore_count(meta: _Meta, policy: str) -> int:
    if meta.explore_count is None:
        if policy == EPSILON_GREEDY:
            raise StateFileError("meta.explore_count: Field required")
        # linucb-v1 never explores, and some of its files don't say so.
        return 0
    if meta.explore_count > meta.pulls:
        raise StateFileError("meta.explore_count is larger than meta.pulls")
    return meta.explore_count


def _check(model: Ridge) -> None:
    """Refuse a model that could break a decision; a model that is only improbable is accepted."""
    A, d = model.A, model.dimension
    largest: Any = np.abs(A).max()
    # Numbers near the largest float overflow on the way; the comparisons below then come out false.
    with np.errstate(all="ignore"):
        if not np.abs(A - A.T).max() <= SYMMETRY_TOLERANCE * largest:
            raise StateFileError("A is not symmetric")
        try:
            smallest = np.linalg.eigvalsh(A)[0]
            scores = _largest_score(model)
        except np.linalg.LinAlgError:
            smallest = scores = np.nan
        rounding = d * np.finfo(np.float64).eps * largest
        if not smallest > rounding:
            raise StateFileError("A is not positive definite")
        if not smallest > _SMALLEST_EIGENVALUE - 10 * rounding:
            raise StateFileError("A is smaller than the identity that it started from")
        if not np.isfinite(scores):
            raise StateFileError("the numbers are too large to compute a score")


def _largest_score(model: Ridge) -> float:
    """Return a bound on any score, since features are within [-1, 1]; infinite or NaN when scores overflow."""
    # L^-1 has L^-1 x of each unit vector x as a column.
    return float(np.abs(theta(model)).sum() + np.linalg.norm(model.inverse_roots, axis=0).sum())
