"""Helpers for migrations. They import nothing from oo_ml, so a migration does the same in every later release."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import context, op
from sqlalchemy import text

_SQL: Final = Path(__file__).parent / "sql"

# Tokens inside which a semicolon does not end a statement, and the words that open and close the body of a function.
_TOKEN: Final = re.compile(
    r"""
    --[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | "[^"]*" | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | \b(?P<word>BEGIN\s+ATOMIC|CASE|END)\b | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


# ADR 12
def run_directory(name: str) -> None:
    """Run the files of alembic/sql/NAME in the order of their names, one statement at a time."""
    for script in sorted((_SQL / name).glob("*.sql")):
        for statement in statements(script.read_text("utf-8")):
            run(statement)


def run(statement: str) -> None:
    """Run one statement, or print it if the command prints a script.

    In the SQL the schemas are called `analytics` and `rollup`; this replaces them with the names in the settings.
    """
    op.execute(context.config.attributes["translate"](statement))


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, each with the comments before it and without its semicolon.

    A distributed PostgreSQL (ADR 14) accepts some statements only if nothing else is sent with them.
    """
    begin, depth = 0, 0
    for token in _TOKEN.finditer(script):
        word = (token["word"] or "").upper()
        if word.startswith("BEGIN"):
            depth = 1
        elif word and depth:
            # Within the body of an SQL function only CASE has an END of its own.
            depth += 1 if word == "CASE" else -1
        elif token["end"] and not depth:
            yield script[begin : token.start()].strip()
            begin = token.end()
    if rest := re.sub(r"--[^\n]*", "", script[begin:]).strip():
        raise ValueError(f"a statement without a semicolon: {rest}")


@dataclass(frozen=True, slots=True)
class HistoryIndex:
    """An index of feature_history: its name, the end of the names of its parts, and its definition."""

    name: str
    suffix: str
    definition: str


# While a statement waits for a lock on a table, every later query on the table waits behind it. So this block waits
# 0.2 s at a time and retries, for at most lock_timeout in all (0: without a limit). It needs a transaction of its own.
_WITH_RETRIES: Final = """
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

# Partitions that lack their part of the partitioned index: the partition, and the name that PostgreSQL would give to
# the part, without and with the schema.
_WITHOUT_INDEX: Final = text(
    """
    SELECT format('oo_ml.%I', p.relname), quote_ident(n.name), format('oo_ml.%I', n.name)
    FROM pg_inherits AS h
    JOIN pg_class AS p ON p.oid = h.inhrelid
    CROSS JOIN LATERAL (
        SELECT left(p.relname, 63 - length(CAST(:suffix AS text))) || CAST(:suffix AS text) AS name
    ) AS n
    WHERE h.inhparent = CAST('oo_ml.feature_history' AS regclass) AND NOT EXISTS (
        SELECT FROM pg_index AS x
        JOIN pg_inherits AS part ON part.inhrelid = x.indexrelid
        WHERE x.indrelid = p.oid AND part.inhparent = CAST(:whole AS regclass)
    )
    ORDER BY p.relname
    """
)

_IS_LEFT_OVER: Final = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('{index}') AND NOT indisvalid"


def index_history(index: HistoryIndex) -> None:
    """Index feature_history while the service is running, partition by partition. Call it in an autocommit block.

    PostgreSQL has no CREATE INDEX CONCURRENTLY for a partitioned table. An invalid index that an interrupted run has
    left is built again. A printed script can't know the partitions, so there the writers wait until the index is built.
    """
    whole = f"oo_ml.{index.name}"
    if context.is_offline_mode():
        run(
            f"""
            -- squawk-ignore require-concurrent-index-creation
            CREATE INDEX IF NOT EXISTS {index.name} ON oo_ml.feature_history {index.definition}
            """
        )
        return
    # ONLY creates an index without rows. PostgreSQL adds parts for partitions that are attached later.
    create = f"CREATE INDEX IF NOT EXISTS {index.name} ON ONLY oo_ml.feature_history {index.definition}"
    run(_WITH_RETRIES.format(statement=create))
    parameters = {"suffix": index.suffix, "whole": whole}
    for partition, name, qualified in op.get_bind().execute(_WITHOUT_INDEX, parameters).all():
        drop_invalid_index(qualified)
        run(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {partition} {index.definition}")
        run(_WITH_RETRIES.format(statement=f"ALTER INDEX {whole} ATTACH PARTITION {qualified}"))


def drop_invalid_index(index: str) -> None:
    """Drop an invalid index that an interrupted CREATE INDEX CONCURRENTLY has left; IF NOT EXISTS would skip it.

    Args:
        index: name of the index, with the schema.
    """
    is_left_over = _IS_LEFT_OVER.format(index=index)
    if context.is_offline_mode():
        run(f"DO $$ BEGIN IF EXISTS ({is_left_over}) THEN DROP INDEX {index}; END IF; END $$")
    elif op.get_bind().execute(text(is_left_over)).all():
        run(f"DROP INDEX CONCURRENTLY {index}")
