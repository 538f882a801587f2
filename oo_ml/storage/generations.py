"""generations and tips: one row for each request to a model, with its outcome and cost, and one for each tip."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.storage import daily_sums
from oo_ml.storage.postgres.sessions import Writing
from oo_ml.storage.schema.prompt_tables import generations, tips

# The transaction may be run again after a lost connection, which can have hidden its COMMIT.
_INSERT = upsert(generations).on_conflict_do_nothing().returning(generations.c.generation_id)


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """Row of generations.

    Attributes:
        prompt_probability: probability with which the version was drawn.
        outcome: ok, or the code of the error in the answer; `error` is its message.
        finish_reason: why the last reply ended, None if it is not known.
        repaired: the tips are from a reply that was not quite JSON.
        requested_model and the fields after it: the parameters of the request; None: not known, or not sent.
    """

    user_id: str
    generation_id: UUID
    prompt_version: str
    prompt_probability: float
    created_at: datetime
    latency_ms: int
    prompt_tokens: int
    completion_tokens: int
    requested: int
    attempts: int
    outcome: str
    model: str | None
    error: str | None
    finish_reason: str | None = None
    repaired: bool = False
    requested_model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    response_format: str | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TipRow:
    """Row of tips; `place` is the index in the model's reply, from 0."""

    user_id: str
    tip_id: str
    generation_id: UUID
    prompt_version: str
    prompt_probability: float
    created_at: datetime
    place: int
    content: str
    rationale: str | None


def insert_generation(connection: Writing, generation: GenerationRow, written: Sequence[TipRow]) -> None:
    """Write a generation and its tips; a failed generation has none. Writing it again changes nothing."""
    daily_sums.assign_transaction_id(connection)
    is_new = connection.execute(_INSERT, asdict(generation)).first() is not None
    if is_new and written:
        connection.execute(insert(tips), [asdict(tip) for tip in written])
