"""Files of the file-based service: read to the last bit, or refused with the reason."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import ImportSourceError
from oo_ml.files import legacy_state
from oo_ml.files.legacy_state import StateFileError
from tests.file_service import content, write_state_file

Content = dict[str, Any]


def test_exactness(tmp_path: Path) -> None:
    """A and b keep every bit, and an almost symmetric A is not changed."""
    written = content(EPSILON_GREEDY, seed=5)
    written["A"][1][4] = float(np.nextafter(written["A"][1][4], 9))
    written["b"][2] = -0.0
    (tmp_path / "ada_egreedy.json").write_text(json.dumps(written), "utf-8")
    state = legacy_state.read(tmp_path, "ada_egreedy.json")
    assert (state.name, state.policy) == ("ada", EPSILON_GREEDY)
    assert state.evidence.A.tobytes() == np.array(written["A"]).tobytes()
    assert state.evidence.b.tobytes() == np.array(written["b"]).tobytes()
    meta = written["meta"]
    assert state.pulls == meta["pulls"]
    assert state.explore_count == meta["explore_count"]
    assert state.reward_count == meta["reward_count"]
    assert state.cumulative_reward == meta["cumulative_reward"]


def test_policy_of_a_file(tmp_path: Path) -> None:
    """The size of the matrix decides whether x_egreedy.json is egreedy-v1 of x or linucb-v1 of "x egreedy"."""
    write_state_file(tmp_path, "x", EPSILON_GREEDY)
    write_state_file(tmp_path, "y_egreedy", LINUCB)
    write_state_file(tmp_path, "z_egreedy", EPSILON_GREEDY)
    read = [legacy_state.read(tmp_path, file) for file in legacy_state.list_files(tmp_path).files]
    assert [(state.name, state.policy) for state in read] == [
        ("x", EPSILON_GREEDY),
        ("y_egreedy", LINUCB),
        ("z_egreedy", EPSILON_GREEDY),
    ]


@pytest.mark.parametrize(
    ("last_updated", "expected"),
    [
        ("2026-03-01T08:30:00Z", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("2026-03-01T09:30:00.25+01:00", datetime(2026, 3, 1, 8, 30, 0, 250_000, tzinfo=UTC)),
        ("2026-03-01 08:30:00", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        (1_772_353_800, datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        (1_772_353_800.5, datetime(2026, 3, 1, 8, 30, 0, 500_000, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times(tmp_path: Path, last_updated: object, expected: datetime | None) -> None:
    """A time is ISO 8601, in UTC if it has no offset, or seconds since 1970, or null."""
    write_state_file(tmp_path, "ada", last_updated=last_updated)
    assert legacy_state.read(tmp_path, "ada.json").last_updated == expected


def test_linucb_without_explore_count(tmp_path: Path) -> None:
    """linucb-v1 never explores, so a file without the counter means 0."""
    written = content(LINUCB)
    del written["meta"]["explore_count"]
    (tmp_path / "ada.json").write_text(json.dumps(written), "utf-8")
    assert legacy_state.read(tmp_path, "ada.json").explore_count == 0


def _meta(**values: object) -> Callable[[Content], None]:
    return lambda state: state["meta"].update(values)


def _without(*path: str) -> Callable[[Content], None]:
    def change(state: Content) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


def _cell(value: object) -> Callable[[Content], None]:
    def change(state: Content) -> None:
        state["A"][0][3] = value

    return change


def _diagonal(value: float) -> Callable[[Content], None]:
    def change(state: Content) -> None:
        state["A"][4] = [0, 0, 0, 0, value]
        for row in state["A"][:4]:
            row[4] = 0

    return change


def _size(d: int) -> Callable[[Content], None]:
    return lambda state: state.update(A=np.eye(d).tolist(), b=[0.0] * d)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("A"), "A: Field required"),
        (_without("b"), "b: Field required"),
        (_without("meta"), "meta: Field required"),
        (_without("meta", "pulls"), "meta.pulls: Field required"),
        (_without("meta", "last_updated"), "meta.last_updated: Field required"),
        (_size(6), "b has 6 numbers; a state has 5 or 7"),
        (_size(0), "b has 0 numbers; a state has 5 or 7"),
        (_size(7), "A is 7 x 7, but a file of this name holds linucb-v1, 5 x 5"),
        (lambda state: state["A"].pop(), "A is not 5 x 5, as b is"),
        (lambda state: state["A"][3].append(0.0), "A is not 5 x 5, as b is"),
        (lambda state: state["b"].pop(), "b has 4 numbers; a state has 5 or 7"),
        (_cell(float("nan")), "A[0][3]: Input should be a finite number"),
        (_cell(float("inf")), "A[0][3]: Input should be a finite number"),
        (_cell(10**400), "A[0][3]: Input should be a finite number"),
        (_cell(True), "A[0][3]: Input should be a valid number"),
        (_cell("1.0"), "A[0][3]: Input should be a valid number"),
        (_cell(None), "A[0][3]: Input should be a valid number"),
        (lambda state: state.update(b=[0, False, 0, 0, 0]), "b[1]: Input should be a valid number"),
        (_cell(40.0), "A is not symmetric"),
        (_cell(1.7e308), "A is not symmetric"),
        (_diagonal(0.0), "A is not positive definite"),
        (_diagonal(1e-17), "A is not positive definite"),
        (_diagonal(-3.0), "A is not positive definite"),
        (lambda state: state.update(A=[[1.0] * 5] * 5), "A is not positive definite"),
        (lambda state: state.update(b=[1.7e308] * 5), "the numbers are too large to compute a score"),
        (_meta(pulls=-1), "meta.pulls: Input should be greater than or equal to 0"),
        (_meta(pulls=3.5), "meta.pulls: Input should be a valid integer"),
        (_meta(pulls=True), "meta.pulls: Input should be a valid integer"),
        (_meta(pulls=2**63), "meta.pulls: Input should be less than or equal to 9007199254740992"),
        (_meta(reward_count="3"), "meta.reward_count: Input should be a valid integer"),
        (_meta(cumulative_reward=float("nan")), "meta.cumulative_reward: Input should be a finite number"),
        (_meta(explore_count=13), "meta.explore_count is larger than meta.pulls"),
        (
            _meta(last_updated="yesterday"),
            "meta.last_updated: Input should be an ISO 8601 time, seconds since 1970, or null",
        ),
        (
            _meta(last_updated=1_772_353_800_000),
            "meta.last_updated: Input should be an ISO 8601 time, seconds since 1970, or null",
        ),
        (_meta(last_updated=True), "meta.last_updated: Input should be an ISO 8601 time, seconds since 1970, or null"),
        (
            _meta(last_updated=float("nan")),
            "meta.last_updated: Input should be an ISO 8601 time, seconds since 1970, or null",
        ),
    ],
)
def test_refusals(tmp_path: Path, change: Callable[[Content], object], reason: str) -> None:
    """A state that could break decisions is refused in one line, with the place and the reason."""
    state = content(LINUCB)
    change(state)
    (tmp_path / "ada.json").write_text(json.dumps(state), "utf-8")
    assert _refusal(tmp_path) == reason


def test_egreedy_without_explore_count(tmp_path: Path) -> None:
    """egreedy-v1 needs the counter, because /stats answers with its exploration rate."""
    state = content(EPSILON_GREEDY)
    del state["meta"]["explore_count"]
    (tmp_path / "ada_egreedy.json").write_text(json.dumps(state), "utf-8")
    assert _refusal(tmp_path, "ada_egreedy.json") == "meta.explore_count: Field required"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b'{"A": [[1.0, 0.', "Invalid JSON: EOF while parsing a value at line 1 column 15"),
        (b"[" * 60_000, "Invalid JSON: recursion limit exceeded"),
        (b"[]", "Input should be an object"),
        (b'{"A\xff": 1}', "not UTF-8 (byte 3)"),
        (b" " * 65_537, "larger than 65536 bytes"),
    ],
)
def test_broken_json(tmp_path: Path, raw: bytes, reason: str) -> None:
    """A file that is not a JSON object is refused, also half a file as a killed service leaves it."""
    (tmp_path / "ada.json").write_bytes(raw)
    assert _refusal(tmp_path).startswith(reason)


def test_missing_file() -> None:
    """A file that disappears during the import is refused."""
    assert _refusal(Path("/nonexistent")) == "can't be read: No such file or directory"


def _refusal(directory: Path, file: str = "ada.json") -> str:
    with pytest.raises(StateFileError) as caught:
        legacy_state.read(directory, file)
    return str(caught.value)


def test_listing(tmp_path: Path) -> None:
    """Entries that could hide a state are refused by name; other entries are only counted."""
    for name in ("b", "a_1", "zoë"):
        write_state_file(tmp_path, name)
    (tmp_path / "link.json").symlink_to("b.json")
    (tmp_path / "copies.json").mkdir()
    (tmp_path / "a copy.json").touch()
    (tmp_path / os.fsdecode(b"\xff.json")).touch()
    for name in ("users.txt", "b.json.bak", ".b.json", "B.JSON"):
        (tmp_path / name).touch()
    (tmp_path / "old").mkdir()
    listing = legacy_state.list_files(tmp_path)
    assert listing.files == ["a_1.json", "b.json", "zoë.json"]
    assert dict(listing.refused) == {
        "a copy.json": "not a name that the file-based service gives to a file",
        "copies.json": "not a regular file",
        "link.json": "a symbolic link",
        "\udcff.json": "not a name that the file-based service gives to a file",
    }
    assert listing.ignored == 5


def test_list_of_users(tmp_path: Path) -> None:
    """Line ends and the byte order mark of Windows are no part of an id; spaces and other line ends of Unicode are."""
    path = tmp_path / "users.txt"
    path.write_bytes("\ufeffada\r\n\r\n a b \n  \nzoë\u2028\nada\nlast".encode())
    assert legacy_state.read_users(path) == ["ada", " a b ", "zoë\u2028", "last"]


def test_encoding_of_the_list(tmp_path: Path) -> None:
    """A list that is not UTF-8 is refused, because a wrong encoding changes ids."""
    path = tmp_path / "users.txt"
    path.write_bytes("ada\nzoë".encode("latin-1"))
    with pytest.raises(ImportSourceError, match=r"users.txt is not UTF-8 \(byte 6\)"):
        legacy_state.read_users(path)
    with pytest.raises(ImportSourceError, match="can't be read: No such file"):
        legacy_state.read_users(tmp_path / "missing")
