"""Prices of models, from which analytics.prompt_costs computes costs."""

from collections.abc import Sequence

from oo_ml.services.each import each
from oo_ml.storage import model_prices
from oo_ml.storage.model_prices import ModelPrice
from oo_ml.storage.postgres.sessions import Reading, Writing

__all__ = ["ModelPrice", "list_prices", "set_price"]


def list_prices(connection: Reading, _: Sequence[None]) -> list[list[ModelPrice]]:
    """Return every price, by model and day."""
    return [model_prices.list_all(connection)]


@each
def set_price(connection: Writing, price: ModelPrice) -> ModelPrice:
    """Store a price; it replaces that of the same model and day."""
    model_prices.save(connection, price)
    return price
