"""Tampering: an export that was changed in any way is refused, and no row is written."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from oo_ml.errors import ExportFileError, OoMlError, ReplayRefusedError
from tests.services.sample_users import (
    create_users,
    dump_export,
    export_user,
    parse_export,
    replay_bytes,
    rows_of,
)
from tests.services.users.exports import SELF, find_row

LINUCB = {"policy": "linucb-v1"}
OLD, NEW = {**LINUCB, "epoch": 0}, {**LINUCB, "epoch": 1}
POLICIES = ("feature_history", "policy_state", "reward_ledger")
Tampering = Callable[[dict[str, Any]], object]

TAMPERED: dict[str, tuple[Tampering, str]] = {
    # The state is not the fold of the ledger
    "A": (
        lambda d: find_row(d, "policy_state", **LINUCB)["a"][1].__setitem__(0, 1e-9),
        rf"{SELF}epoch 1, version 4: expected A\[1\]\[0\] = .*, found 1e-09",
    ),
    "dimension": (
        lambda d: find_row(d, "policy_state", **LINUCB).update(a=[[1]], b=[0]),
        rf"{SELF}epoch 1, version 4: expected A to be 5 rows of 5 finite numbers, found 1 rows of 1 finite numbers",
    ),
    "reward_count": (
        lambda d: find_row(d, "policy_state", **LINUCB).update(reward_count=3),
        rf"{SELF}epoch 1, version 4: expected reward_count = 2, found 3",
    ),
    "cumulative_reward": (
        lambda d: find_row(d, "policy_state", **LINUCB).update(cumulative_reward=-0.25 + 1e-16),
        rf"{SELF}epoch 1, version 4: expected cumulative_reward = -0.25, found -0.2.*",
    ),
    "version": (
        lambda d: find_row(d, "policy_state", **LINUCB).update(version=3),
        rf"{SELF}epoch 1, version 3: expected version = 4, the number of ledger entries, found 3",
    ),
    "epoch": (
        lambda d: find_row(d, "policy_state", **LINUCB).update(epoch=0),
        rf"{SELF}epoch 1, version 1: expected no ledger entry after the state's epoch 0, found this one",
    ),
    "reward": (
        lambda d: find_row(d, "reward_ledger", **NEW, version=4).update(reward=0.5),
        rf"{SELF}epoch 1, version 4: expected b\[0\] = .*, found .*",
    ),
    "x": (
        lambda d: find_row(d, "reward_ledger", **NEW, version=4).update(x=[0.5] * 4),
        rf"{SELF}epoch 1, version 4: expected x to be 5 finite numbers, found 4 finite numbers",
    ),
    "row lost": (
        lambda d: d["reward_ledger"].remove(find_row(d, "reward_ledger", **OLD, version=1)),
        rf"{SELF}epoch 0, version 2: expected version 1 as the next ledger entry, found this one",
    ),
    "state lost": (
        lambda d: d.update(policy_state=[]),
        (
            "The export contradicts itself: egreedy-v1: expected a row in policy_state, because feature_history has"
            " rows, found none"
        ),
    ),
    "policy": (
        lambda d: [row.update(policy="x") for t in ("policy_state", "reward_ledger") for row in d[t]],
        r"(line \d+ to )?line \d+: policy_state refuses a row: 23505 .*",
    ),
    "unknown policy": (
        lambda d: [row.update(policy="zz") for table in POLICIES for row in d[table] if row["policy"] == "linucb-v1"],
        "The export contradicts itself: zz: expected a published policy (.*), found another",
    ),
    # What could not be shown
    "features": (
        lambda d: d["feature_history"][0].update(features=[1]),
        r"line \d+: features: no decision has such JSON",
    ),
    "deep features": (
        lambda d: d["feature_history"][0].update(features={"a": [[[1]]]}),
        r"line \d+: features: no decision has such JSON",
    ),
    "no candidates": (
        lambda d: d["feature_history"][0].update(candidates=[]),
        r"line \d+: candidates: no decision has such JSON",
    ),
    "candidate": (
        lambda d: d["feature_history"][0]["candidates"][0].pop("id"),
        r"line \d+: candidates: no decision has such JSON",
    ),
    "time beyond time": (
        lambda d: d["policy_state"][0].update(last_updated="0001-01-01T00:00:00+14:00"),
        r"line \d+: last_updated: must be a time in ISO 8601 with its offset",
    ),
    # The rest does not belong together
    "reward of a decision": (
        lambda d: find_row(d, "feature_history", tip_id="t5").update(reward=0.5),
        f"{SELF}epoch 1, decision .*: expected reward 0.25, as in its last ledger entry, version 4, found reward 0.5",
    ),
    "x of a decision": (
        lambda d: find_row(d, "feature_history", tip_id="t6").update(x=[0.5]),
        f"{SELF}epoch 1, decision .*: expected x to be 5 finite numbers, found 1 finite numbers",
    ),
    "correction of something else": (
        lambda d: find_row(d, "reward_ledger", **OLD, version=3).update(previous_reward=0.5),
        f"{SELF}epoch 0, version 3, .*: expected previous_reward = 0.0, the reward of version 2, found 0.5",
    ),
    # The database refuses it
    "out of range": (
        lambda d: find_row(d, "reward_ledger", **NEW, version=4).update(reward=2),
        r"(line \d+ to )?line \d+: reward_ledger refuses a row: 23514 .*ck_reward_ledger_reward_range.*",
    ),
    "twice": (
        lambda d: d["tips"].append({**d["tips"][1], "content": "other"}),
        r"(line \d+ to )?line \d+: tips refuses a row: 23505 .*pk_tips.*",
    ),
    "order": (
        lambda d: d["feature_history"].reverse(),
        r"line 3: position: not larger than in the row before; export the user again",
    ),
    "tip of no generation": (
        lambda d: d["tips"][0].update(generation_id="00000000-0000-0000-0000-000000000001"),
        r"(line \d+ to )?line \d+: tips refuses a row: 23503 .*fk_tips_generations.*",
    ),
    "NUL within JSON": (
        lambda d: d["feature_history"][0].update(answer={"x": "\0"}),
        r"(line \d+ to )?line \d+: feature_history refuses a row: 22P05 .*",
    ),
    "deep": (
        lambda d: d["policy_state"][0].update(b=json.loads("[" * 900 + "]" * 900)),
        "A row is nested too deeply",
    ),
    "null": (
        lambda d: d["tips"][0].update(content=None),
        r"(line \d+ to )?line \d+: tips refuses a row: 23502 .*",
    ),
    "null in an array": (
        lambda d: find_row(d, "policy_state", **LINUCB)["b"].__setitem__(0, None),
        r"line \d+: b: must be a list of finite numbers, or of such lists of one length",
    ),
    # No column can hold it
    "text": (lambda d: d["tips"][0].update(content=1), r"line \d+: content: must be text without NUL .*"),
    "NUL": (lambda d: d["tips"][0].update(content="\0"), r"line \d+: content: must be text without NUL .*"),
    "surrogate": (lambda d: d["tips"][0].update(content="\ud800"), r"line \d+: content: must be text without .*"),
    "surrogate within JSON": (
        lambda d: d["feature_history"][0].update(answer={"x": "\ud800"}),
        r"line \d+: answer: must hold finite numbers and no unpaired surrogates",
    ),
    "integer": (lambda d: d["tips"][0].update(place=0.0), r"line \d+: place: must be an integer of 16 bits"),
    "large integer": (lambda d: d["tips"][1].update(place=2**15), r"line \d+: place: must be an integer of 16 bits"),
    "truth as integer": (
        lambda d: d["tips"][1].update(place=True),
        r"line \d+: place: must be an integer of 16 bits",
    ),
    "truth": (
        lambda d: d["feature_history"][0].update(exploring=0),
        r"line \d+: exploring: must be true or false",
    ),
    "number": (
        lambda d: d["feature_history"][0].update(score="1"),
        r"line \d+: score: must be a finite number",
    ),
    "large number": (
        lambda d: d["feature_history"][0].update(score=10**400),
        r"line \d+: score: must be a finite number",
    ),
    "ragged": (
        lambda d: find_row(d, "policy_state", **LINUCB).update(a=[[1, 2], [3]]),
        r"line \d+: a: must be a list of finite numbers, or of such lists of one length",
    ),
    "no array": (lambda d: d["policy_state"][0].update(b=1), r"line \d+: b: must be a list of finite numbers, .*"),
    "time": (
        lambda d: d["tips"][0].update(created_at="2026-11-23T12:00:00"),
        r"line \d+: created_at: must be a time in ISO 8601 with its offset",
    ),
    "no time": (
        lambda d: d["tips"][0].update(created_at="noon"),
        r"line \d+: created_at: must be a time in ISO 8601 with its offset",
    ),
    "uuid": (lambda d: d["tips"][0].update(generation_id="x"), r"line \d+: generation_id: must be a UUID"),
    "bytes": (
        lambda d: d["feature_history"][0].update(request_digest="xy"),
        r"line \d+: request_digest: must be bytes in hexadecimal",
    ),
    # There is no place for it
    "column": (
        lambda d: d["tips"][1].update(more=1),
        r"line \d+: tips has no column 'more' here; migrate this database to the release of the export",
    ),
    "columns": (lambda d: d["tips"][1].pop("place"), r"line \d+: other columns than in the first row of tips"),
    "table": (
        lambda d: d.update(more=[{"user_id": "ada"}]),
        r"line 26: this database has no table 'more'; migrate this database to the release of the export",
    ),
    "prompt version kept": (
        lambda d: d["prompt_assignments"][0].update(prompt_version="v9"),
        "The prompt version 'v9' is unknown here: publish it first",
    ),
    "prompt version": (
        lambda d: d["generations"][0].update(prompt_version="v9"),
        "The prompt version 'v9' is unknown here: publish it first",
    ),
}


@pytest.mark.parametrize(("tamper_with", "message"), TAMPERED.values(), ids=TAMPERED)
def test_tampering(life: bytes, other_db: Engine, tamper_with: Tampering, message: str) -> None:
    """An export that was changed in any way is refused in one sentence, and no row is written."""
    document = parse_export(life)
    tamper_with(document)
    with pytest.raises(OoMlError, match=f"^{message}$") as caught:
        replay_bytes(other_db, dump_export(document))
    assert isinstance(caught.value, ExportFileError | ReplayRefusedError)
    assert "\n" not in caught.value.message
    assert rows_of(other_db, "ada") == {}


def test_sign_of_zero(db: Engine, other_db: Engine) -> None:
    """States are compared as bits: 0.0 is not -0.0."""
    create_users(db)
    document = parse_export(export_user(db, "zoë"))
    [state] = document["policy_state"]
    state["a"][2][3] = 0.0
    message = r"egreedy-v1, epoch 0, version 1: expected A\[2\]\[3\] = -0.0, found 0.0$"
    with pytest.raises(ReplayRefusedError, match=message):
        replay_bytes(other_db, dump_export(document))
