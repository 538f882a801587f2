"""generations and tips: what a model was asked to write for whom, what came of it, and what it cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert

from oo_ml.storage import daily_sums
from oo_ml.storage.schema.prompt_tables import generations, tips


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """A row of generations.

    Attributes:
        outcome: ok, or the code of the error that was answered, with its text in `error`.
        prompt_probability: with which the version was picked.
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


@dataclass(frozen=True, slots=True)
class TipRow:
    """A row of tips: `place` is where it stood in the reply, from 0; version and probability are the generation's."""

    user_id: str
    tip_id: str
    generation_id: UUID
    prompt_version: str
    prompt_probability: float
    created_at: datetime
    place: int
    content: str
    rationale: str | None


def save(connection: Connection, generation: GenerationRow, written: Sequence[TipRow]) -> None:
    """Write a generation and the tips it gave, none if it failed."""
    daily_sums.take_number(connection)
    connection.execute(insert(generations), asdict(generation))
    if written:
        connection.execute(insert(tips), [asdict(tip) for tip in written])
