"""Indexes built beside a service at work, for migrations: a partitioned table has no CREATE INDEX CONCURRENTLY.

What an interrupted run left behind is no hindrance to the next.
"""

from dataclasses import dataclass
from typing import Final

from alembic import context, op
from sqlalchemy import text


@dataclass(frozen=True, slots=True)
class HistoryIndex:
    """An index of feature_history: its name, what ends the names of its parts, and what is indexed how."""

    name: str
    suffix: str
    definition: str


# For a transaction of its own. Whoever waits for a table keeps everybody waiting who comes after, so this asks for it
# again and again instead, each time for a moment, as long as lock_timeout allows in all (0: as long as it takes).
_AGAIN_AND_AGAIN: Final = """
    DO $$
    DECLARE
        patience interval := current_setting('lock_timeout')::interval;
    BEGIN
        PERFORM set_config('lock_timeout', '200ms', true);
        LOOP
            BEGIN
                {statement};
                EXIT;
            EXCEPTION WHEN lock_not_available THEN
                IF patience > '0' AND clock_timestamp() - now() > patience THEN
                    RAISE;
                END IF;
            END;
            PERFORM pg_sleep(0.1);
        END LOOP;
    END $$
"""

# Partitions that have no part yet in the index of the whole: their names, the one that PostgreSQL would give the index
# of each, and the same with its schema.
_WITHOUT_INDEX: Final = text(
    """
    SELECT p.oid::regclass::text, quote_ident(n.name), format('%I.%I', s.nspname, n.name)
    FROM pg_inherits AS h
    JOIN pg_class AS p ON p.oid = h.inhrelid
    JOIN pg_namespace AS s ON s.oid = p.relnamespace
    CROSS JOIN LATERAL (
        SELECT left(p.relname, 63 - length(CAST(:suffix AS text))) || CAST(:suffix AS text) AS name
    ) AS n
    WHERE h.inhparent = 'feature_history'::regclass AND NOT EXISTS (
        SELECT FROM pg_index AS x
        JOIN pg_inherits AS part ON part.inhrelid = x.indexrelid
        WHERE x.indrelid = p.oid AND part.inhparent = CAST(:whole AS text)::regclass
    )
    ORDER BY p.relname
    """
)

_IS_LEFT_OVER: Final = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('{index}') AND NOT indisvalid"


def index_history_offline(index: HistoryIndex) -> None:
    """Index feature_history in a script, which can't know its partitions: writers wait while it is read."""
    op.execute(
        f"""
        -- squawk-ignore require-concurrent-index-creation
        CREATE INDEX IF NOT EXISTS {index.name} ON feature_history {index.definition}
        """
    )


def index_history(index: HistoryIndex) -> None:
    """Index feature_history as CREATE INDEX would, but partition by partition, beside a service at work.

    In an autocommit block.
    """
    # Of no row. A partition that is attached from now on gets an index by itself.
    whole = f"CREATE INDEX IF NOT EXISTS {index.name} ON ONLY feature_history {index.definition}"
    op.execute(_AGAIN_AND_AGAIN.format(statement=whole))
    parameters = {"suffix": index.suffix, "whole": index.name}
    for partition, name, qualified in op.get_bind().execute(_WITHOUT_INDEX, parameters).all():
        drop_left_over(qualified)
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {partition} {index.definition}")
        attach = f"ALTER INDEX {index.name} ATTACH PARTITION {qualified}"
        op.execute(_AGAIN_AND_AGAIN.format(statement=attach))


def drop_left_over(index: str) -> None:
    """Drop what an interrupted CREATE INDEX CONCURRENTLY leaves, which IF NOT EXISTS would take for done."""
    is_left_over = _IS_LEFT_OVER.format(index=index)
    if context.is_offline_mode():
        op.execute(f"DO $$ BEGIN IF EXISTS ({is_left_over}) THEN DROP INDEX {index}; END IF; END $$")
    elif op.get_bind().execute(text(is_left_over)).all():
        op.execute(f"DROP INDEX CONCURRENTLY {index}")
