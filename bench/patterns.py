"""A few decisions as the service writes them: the pattern of all other decisions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import psycopg
from psycopg import sql

from bench import bodies
from bench.database import Database
from bench.errors import BenchError
from bench.open_decisions import name
from bench.service import Service

Row = Mapping[str, str | None]

_USER: Final = "pattern"
_VARIANTS: Final = 24
_VERSIONS: Final = 6
# Columns that differ in each row. The position comes from its sequence.
_OWN: Final = ("user_id", "decision_id", "decided_at", "answer")
_POSITION: Final = "position"
_BLOCK: Final = 500


@dataclass(frozen=True, slots=True)
class Part:
    """Decisions to be made of one month.

    Attributes:
        users: how many there are from `first_user` on; the decision in place p is of user p modulo `users`.
        count: of decisions.
        first_time: of the first, in milliseconds since 1970; each is `step` milliseconds later than the one before.
    """

    first_user: int
    users: int
    count: int
    first_time: int
    step: int = 1


def ask(service: Service, database: Database) -> list[Row]:
    """Return a few rows of the history, columns as text by name, and erase the user that they were made for."""
    with httpx.Client(base_url=service.url, timeout=20, trust_env=False) as client, database.connect() as connection:
        for variant in range(_VARIANTS):
            version = f"v{1 + variant % _VERSIONS}"
            body = bodies.score(10, variant=variant, prompt_version=version).replace(bodies.USER, _USER)
            answer = client.post("/score", content=body, headers={"Content-Type": "application/json"})
            # Rewards will have to name the tip.
            if answer.status_code != httpx.codes.OK or answer.json()["tip_id"] != bodies.CHOSEN:
                raise BenchError(f"/score does not choose {bodies.CHOSEN} but answers: {answer.text[:200]}")
        rows = _rows(connection)
        client.delete(f"/users/{_USER}").raise_for_status()
    return rows


def _rows(connection: psycopg.Connection[Any]) -> list[Row]:
    described = connection.execute("SELECT * FROM oo_ml.feature_history LIMIT 0").description or ()
    names = [column.name for column in described]
    as_text = sql.SQL(", ").join(sql.SQL("CAST({} AS text)").format(sql.Identifier(column)) for column in names)
    query = sql.SQL("SELECT {} FROM oo_ml.feature_history WHERE user_id = {}").format(as_text, sql.Literal(_USER))
    return [dict(zip(names, row, strict=True)) for row in connection.execute(query)]


def columns(rows: list[Row]) -> list[str]:
    """Return the columns that `blocks` gives, in order."""
    return [*_OWN, *_others(rows[0])]


def blocks(rows: list[Row], part: Part) -> Iterator[tuple[str, int]]:
    """Yield the decisions of `part` after the pattern of `rows`, as COPY reads them: lines, and how many they are."""
    pairs = [_split_at_id(row) for row in rows]
    for start in range(0, part.count, _BLOCK):
        places = range(start, min(start + _BLOCK, part.count))
        # To the second or so, which is exact enough for every reader.
        decided_at = datetime.fromtimestamp((part.first_time + start * part.step) / 1000, UTC).isoformat()
        lines = []
        for place in places:
            before, after = pairs[place % len(pairs)]
            decision = name(part.first_time + place * part.step, place)
            user = part.first_user + place % part.users
            lines.append(f"{user}\t{decision}\t{decided_at}\t{before}{decision}{after}")
        yield "".join(lines), len(places)


def _split_at_id(row: Row) -> tuple[str, str]:
    """Return the parts of a line before and after the decision's id in the answer."""
    before, after = (row["answer"] or "").split(row["decision_id"] or "")
    others = [row[column] for column in _others(row)]
    cells = [_escaped(after), *(r"\N" if text is None else _escaped(text) for text in others)]
    return _escaped(before), "\t".join(cells) + "\n"


def _others(row: Row) -> list[str]:
    return [column for column in row if column not in {*_OWN, _POSITION}]


def _escaped(text: str) -> str:
    # jsonb, the only place for other characters, writes them with backslashes.
    return text.replace("\\", "\\\\")
