"""The table model_prices: what a million tokens of a model cost."""

from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.prompt_tables import model_prices


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """A row of model_prices: the prices of a million tokens from the day `since` on, in the operator's currency."""

    model: str
    since: date
    prompt_price: Decimal
    completion_price: Decimal


_COLUMNS = tuple(model_prices.c[name] for name in ModelPrice.__dataclass_fields__)
_LIST = select(*_COLUMNS).order_by(model_prices.c.model, model_prices.c.since)
_INSERT = upsert(model_prices)
_SAVE = _INSERT.on_conflict_do_update(
    index_elements=[model_prices.c.model, model_prices.c.since],
    set_={name: _INSERT.excluded[name] for name in ("prompt_price", "completion_price")},
)


def list_all(connection: Reading) -> list[ModelPrice]:
    """Return every price, by model and day."""
    return [ModelPrice(*row) for row in connection.execute(_LIST)]


def save(connection: Writing, price: ModelPrice) -> None:
    """Write a price; it replaces that of the same model and day."""
    connection.execute(_SAVE, asdict(price))
