"""feature_history written: one row a decision, with all that explains it. Only its reward ever changes (ledger.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from sqlalchemy import Connection

from oo_ml.storage import states
from oo_ml.storage.history import DecisionKey, names
from oo_ml.storage.postgres import float_arrays
from oo_ml.storage.postgres.binary_columns import (
    BigIntegers,
    Booleans,
    Digests,
    Integers,
    Jsons,
    Numbers,
    Texts,
    Times,
    Uuids,
)
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.states import PolicyState, StateKey


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision among n candidates, as it is stored.

    Attributes:
        key: whose decision, by which policy.
        epoch, version: of the state it was made from.
        pull: the decision's number in the epoch, from 1.
        content: of the chosen tip, at most 2,000 characters; None leaves it to the latest generated tip of that id.
        prompt_version: as the client named it; None leaves it to the same tip.
        x: features of the chosen tip, shape (d,).
        context: the moment it was made for.
        features: the chosen tip's, raw, as /features shows them.
        candidates: what was considered, as JSON objects.
        answer: what the client was told.
        request_digest: of the request, where the client named the decision.
        exploration: share of decisions drawn at random.
        alpha: width of the confidence bound; None for a policy without one.
        exploit, explore, propensities: of each candidate, shape (n,); see domain/policies.py.
    """

    key: StateKey
    decision_id: UUID
    epoch: int
    version: int
    pull: int
    decided_at: datetime
    score: float
    propensity: float
    exploring: bool
    tip_id: str
    content: str | None
    prompt_version: str | None
    x: NDArray[np.float64]
    context: dict[str, Any]
    features: dict[str, Any]
    candidates: list[dict[str, Any]]
    answer: dict[str, Any]
    request_digest: bytes | None
    exploration: float
    alpha: float | None
    exploit: NDArray[np.float64]
    explore: NDArray[np.float64]
    propensities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision that was made before: what it was asked with, and what was answered."""

    request_digest: bytes | None
    answer: dict[str, Any]


# The prompt version comes from the candidate, else from the latest generated tip of that id; generation and probability
# are those of the latest such tip that this version wrote. WITH ORDINALITY and the ORDER BY give positions in the order
# of the batch.
_INSERT = Statement(f"""
    WITH counted AS ({states.COUNT})
    INSERT INTO oo_ml.feature_history (
        user_id, decision_id, policy, epoch, version, pull, decided_at, score, propensity, exploring, tip_id, content,
        prompt_version, prompt_probability, generation_id, x, context, features, candidates, answer, request_digest,
        exploration, alpha, exploit, explore, propensities
    )
    SELECT
        k.user_id, k.decision_id, k.policy, k.epoch, k.version, k.pull, k.decided_at, k.score, k.propensity,
        k.exploring, k.tip_id, coalesce(k.content, left(tip.content, 2000)),
        coalesce(k.prompt_version, tip.prompt_version), tip.prompt_probability,
        tip.generation_id,
        {float_arrays.vector_sql("x", "k.x_offset", "k.dimension")},
        k.context, k.features, k.candidates, k.answer, k.request_digest, k.exploration, k.alpha,
        {float_arrays.vector_sql("exploit", "k.n_offset", "k.n")},
        {float_arrays.vector_sql("explore", "k.n_offset", "k.n")},
        {float_arrays.vector_sql("all_propensities", "k.n_offset", "k.n")}
    FROM unnest(
        CAST(:user_ids AS text[]), CAST(:decision_ids AS uuid[]), CAST(:policies AS text[]),
        CAST(:epochs AS integer[]), CAST(:versions AS bigint[]), CAST(:pulls AS bigint[]),
        CAST(:decided_at AS timestamptz[]), CAST(:scores AS float8[]), CAST(:propensities AS float8[]),
        CAST(:exploring AS boolean[]),
        CAST(:tip_ids AS text[]), CAST(:contents AS text[]), CAST(:prompt_versions AS text[]),
        CAST(:contexts AS jsonb[]), CAST(:features AS jsonb[]), CAST(:candidates AS jsonb[]), CAST(:answers AS jsonb[]),
        CAST(:request_digests AS bytea[]), CAST(:explorations AS float8[]), CAST(:alphas AS float8[]),
        CAST(:dimensions AS integer[]), CAST(:x_offsets AS integer[]),
        CAST(:counts AS integer[]), CAST(:n_offsets AS integer[])
    ) WITH ORDINALITY AS k (
        user_id, decision_id, policy, epoch, version, pull, decided_at, score, propensity, exploring, tip_id, content,
        prompt_version, context, features, candidates, answer, request_digest, exploration, alpha,
        dimension, x_offset, n, n_offset, place
    )
    LEFT JOIN LATERAL (
        SELECT t.prompt_version, t.prompt_probability, t.generation_id, t.content
        FROM oo_ml.tips AS t
        WHERE t.user_id = k.user_id AND t.tip_id = k.tip_id
            AND (k.prompt_version IS NULL OR t.prompt_version = k.prompt_version)
        ORDER BY t.generation_id DESC
        LIMIT 1
    ) AS tip ON true
    ORDER BY k.place
""")

_ANSWERED = Statement("""
    SELECT h.user_id, h.decision_id, h.request_digest, h.answer
    FROM unnest(CAST(:user_ids AS text[]), CAST(:decision_ids AS uuid[])) AS k (user_id, decision_id)
    JOIN oo_ml.feature_history AS h ON h.user_id = k.user_id AND h.decision_id = k.decision_id
""")


def insert(connection: Connection, decisions: Sequence[DecisionRow], counted: Sequence[PolicyState]) -> None:
    """Write `decisions`, in the order in which they were made, and the states `counted`, which have counted them."""
    dimensions = [len(decision.x) for decision in decisions]
    counts = [len(decision.propensities) for decision in decisions]
    _INSERT.run(
        connection,
        {
            **states.counted(counted),
            "user_ids": Texts.of(decision.key.user_id for decision in decisions),
            "decision_ids": Uuids.of(decision.decision_id for decision in decisions),
            "policies": Texts.of(decision.key.policy for decision in decisions),
            "epochs": Integers.of(decision.epoch for decision in decisions),
            "versions": BigIntegers.of(decision.version for decision in decisions),
            "pulls": BigIntegers.of(decision.pull for decision in decisions),
            "decided_at": Times.of(decision.decided_at for decision in decisions),
            "scores": Numbers.of(decision.score for decision in decisions),
            "propensities": Numbers.of(decision.propensity for decision in decisions),
            "exploring": Booleans.of(decision.exploring for decision in decisions),
            "tip_ids": Texts.of(decision.tip_id for decision in decisions),
            "contents": Texts.of(decision.content for decision in decisions),
            "prompt_versions": Texts.of(decision.prompt_version for decision in decisions),
            "contexts": Jsons.of(to_json(decision.context) for decision in decisions),
            "features": Jsons.of(to_json(decision.features) for decision in decisions),
            "candidates": Jsons.of(to_json(decision.candidates) for decision in decisions),
            "answers": Jsons.of(to_json(decision.answer) for decision in decisions),
            "request_digests": Digests.of(decision.request_digest for decision in decisions),
            "explorations": Numbers.of(decision.exploration for decision in decisions),
            "alphas": Numbers.of(decision.alpha for decision in decisions),
            "dimensions": Integers.of(dimensions),
            "x": float_arrays.pack([decision.x for decision in decisions]),
            "x_offsets": Integers.of(float_arrays.offsets(dimensions)),
            "counts": Integers.of(counts),
            "n_offsets": Integers.of(float_arrays.offsets(counts)),
            "exploit": float_arrays.pack([decision.exploit for decision in decisions]),
            "explore": float_arrays.pack([decision.explore for decision in decisions]),
            "all_propensities": float_arrays.pack([decision.propensities for decision in decisions]),
        },
    )


def answered(connection: Connection, keys: Sequence[DecisionKey]) -> dict[DecisionKey, Answered]:
    """Return those of the decisions named that were made already."""
    rows = _ANSWERED.run(connection, names(keys))
    return {
        DecisionKey(user_id, decision_id): Answered(digest, answer) for user_id, decision_id, digest, answer in rows
    }
