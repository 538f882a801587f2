"""The expected content of the daily tables, computed from the decisions as they are now, without their changes."""

from typing import Any

from sqlalchemy import Engine, text

SCRATCH = {
    "reactions": """
        SELECT
            day, policy, prompt_version, exploring, reaction, count(*), sum(CAST(1 / p AS numeric)),
            sum(CAST(1 / p * (1 / p) AS numeric)), sum(CAST(1 / p * reward AS numeric)),
            count(*) FILTER (WHERE (SELECT min(one) FROM unnest(propensities) AS one) >= 1e-12 IS NOT TRUE)
        FROM seen
        GROUP BY day, policy, prompt_version, exploring, reaction
    """,
    "user_groups": """
        SELECT
            day, policy, prompt_version, exploring, reaction, get_byte(sha256(convert_to(user_id, 'UTF8')), 0) % 16,
            policy_probability IS NOT NULL, count(*), sum(r), sum(w), sum(ww), sum(wr),
            count(reward) FILTER (WHERE exploit IS NOT NULL), sum(CAST(d AS numeric)),
            count(*) FILTER (WHERE cardinality(propensities) > 1 OR propensities IS NULL),
            count(*) FILTER (WHERE (SELECT min(one) FROM unnest(propensities) AS one) >= 1e-12 IS NOT TRUE)
        FROM (
            SELECT
                *, CAST(1 / p AS numeric) AS w, CAST(1 / p * (1 / p) AS numeric) AS ww,
                CAST(1 / p * reward AS numeric) AS wr, CAST(reward AS numeric) AS r,
                (
                    SELECT avg(q) + 1 / propensity * count(*) FILTER (WHERE one ->> 'id' = tip_id) / count(*)
                        * (reward - avg(q) FILTER (WHERE one ->> 'id' = tip_id))
                    FROM ROWS FROM (jsonb_array_elements(candidates), unnest(exploit)) AS candidate (one, q)
                ) AS d
            FROM seen
        ) AS weighed
        GROUP BY day, policy, prompt_version, exploring, reaction, 6, 7
    """,
    "learning": """
        SELECT
            day, policy, first_pull, count(*), count(reward),
            sum(CAST(reward AS numeric)), sum(CAST(reward * reward AS numeric))
        FROM (
            SELECT *, CASE WHEN pull < 100 THEN pull ELSE pull - pull % 10 END AS first_pull FROM seen WHERE pull > 0
        ) AS numbered
        GROUP BY day, policy, first_pull
    """,
    "first_decisions": """
        SELECT
            day, policy, prior_version, 5 * div(pull - 1, 5) + 1, get_byte(sha256(convert_to(user_id, 'UTF8')), 0) % 16,
            count(*), count(reward), sum(CAST(reward AS numeric))
        FROM seen
        WHERE prior_version IS NOT NULL AND pull <= 20
        GROUP BY 1, 2, 3, 4, 5
    """,
    "delays": """
        SELECT day, policy, ceil(20 * log(2, CAST(1 + greatest(delay, 0) AS numeric))), count(*)
        FROM seen WHERE reaction NOT IN ('none', 'default') GROUP BY 1, 2, 3
    """,
    "exploration": """
        SELECT
            day, policy, count(*), count(*) FILTER (WHERE exploring), sum(CAST(exploration AS numeric)),
            sum(CAST(exploration * (1 - exploration) AS numeric)),
            sum(CAST(1 / propensity / n AS numeric)), sum(CAST(1 / propensity / n * (1 / propensity / n) AS numeric))
        FROM seen
        GROUP BY day, policy
    """,
    "costs": """
        SELECT
            CAST(created_at AT TIME ZONE 'UTC' AS date) AS day, prompt_version, coalesce(model, ''), count(*),
            count(*) FILTER (WHERE outcome <> 'ok'), sum(attempts - 1) FILTER (WHERE attempts > 1),
            sum(prompt_tokens), sum(completion_tokens)
        FROM oo_ml.generations
        GROUP BY 1, 2, 3
    """,
    "done": """
        SELECT CAST(g.created_at AT TIME ZONE 'UTC' AS date) AS day, g.prompt_version, count(*)
        FROM seen JOIN oo_ml.generations AS g USING (user_id, generation_id)
        WHERE reaction = 'done'
        GROUP BY 1, 2
    """,
    "rewards": """
        SELECT
            CAST(recorded_at AT TIME ZONE 'UTC' AS date), policy,
            count(*) FILTER (WHERE kind IN ('reward', 'default', 'warm')) - count(*) FILTER (WHERE kind = 'retract')
        FROM oo_ml.reward_ledger
        GROUP BY 1, 2
        HAVING count(*) FILTER (WHERE kind IN ('reward', 'default', 'warm')) <> count(*) FILTER (WHERE kind = 'retract')
    """,
    "latencies": """
        SELECT
            CAST(created_at AT TIME ZONE 'UTC' AS date) AS day, prompt_version,
            CAST(round(20 * log(2, CAST(1 + latency_ms AS numeric))) AS integer), count(*)
        FROM oo_ml.generations
        GROUP BY 1, 2, 3
    """,
}
SEEN = """
    WITH seen AS (
        SELECT
            *,
            CAST(decided_at AT TIME ZONE 'UTC' AS date) AS day,
            extract(epoch FROM rewarded_at - decided_at) AS delay,
            propensity * coalesce(prompt_probability, 1) AS p,
            CASE
                WHEN exploration > 0 THEN CAST(jsonb_array_length(candidates) AS float8) / (
                    SELECT count(*) FROM jsonb_array_elements(candidates) AS one WHERE one ->> 'id' = tip_id
                )
                ELSE 1
            END AS n,
            CASE
                WHEN reward IS NULL THEN 'none' WHEN reward_kind = 'default' THEN 'default'
                WHEN reward = 1 THEN 'done' WHEN reward = 0.5 THEN 'helpful' WHEN reward = 0 THEN 'snooze'
                WHEN reward = -0.5 THEN 'not_helpful' WHEN reward = -1 THEN 'dismiss' ELSE 'other'
            END AS reaction
        FROM oo_ml.feature_history
    )
"""
KEYS = {
    "reactions": 5,
    "user_groups": 7,
    "learning": 3,
    "first_decisions": 5,
    "delays": 3,
    "exploration": 2,
    "costs": 3,
    "done": 2,
    "rewards": 2,
    "latencies": 3,
}


def compute_rows(db: Engine, table: str) -> list[tuple[Any, ...]]:
    """Return the rows that a table should have; a sum over no reward is 0."""
    with db.begin() as connection:
        rows = connection.execute(text(SEEN + SCRATCH[table]))
        return sorted(
            (tuple(value if value is not None or place == 2 else 0 for place, value in enumerate(row)) for row in rows),
            key=repr,
        )


def read_rows(db: Engine, table: str, source: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table or view, without cells that have no decision left."""
    keys = KEYS[table]
    with db.begin() as connection:
        rows = [tuple(row) for row in connection.execute(text(f"SELECT * FROM {source}"))]  # noqa: S608 - a name of ours
    cells: dict[Any, list[Any]] = {}
    for row in rows:
        cell = cells.setdefault(row[:keys], [0] * (len(row) - keys))
        for place, value in enumerate(row[keys:]):
            cell[place] += value
    assert all(not any(sums) for sums in cells.values() if not sums[0]), "a cell without decisions has sums"
    return sorted(((*key, *sums) for key, sums in cells.items() if sums[0]), key=repr)


def assert_right(db: Engine, prefix: str = "rollup.") -> None:
    """Compare every table, or every view that adds uncounted rows, with the decisions, to the last digit."""
    for table in SCRATCH:
        assert normalize(read_rows(db, table, prefix + table)) == normalize(compute_rows(db, table)), table


def normalize(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows with numbers that compare by value: 1.0 equals 1.00."""
    return [tuple(str(value) if isinstance(value, str | bool) else value for value in row) for row in rows]
