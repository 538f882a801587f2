"""Migrations of the database, for the command line and for CI."""

from oo_ml.storage.schema.migrate import check, downgrade, history, sql, upgrade

__all__ = ["check", "downgrade", "history", "sql", "upgrade"]
