"""Deciding, learning and resetting."""

from oo_ml.storage.ledger import Once

__all__ = ["Once"]
