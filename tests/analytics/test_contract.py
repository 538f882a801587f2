"""The contract of schema analytics: a release may add views and columns at the end, and removes none."""

from sqlalchemy import Engine, text

REACTIONS = ("reacted", "done", "helpful", "snooze", "not_helpful", "dismiss", "other")
REACTION_RATES = f"""
    grouped_by text, prompt_version text, policy text, shown bigint,
    {
    ''' '''.join(
        f'''{reaction} bigint, {reaction}_rate float8, {reaction}_low float8, {reaction}_high float8,
        {reaction}_weighted_rate float8, {reaction}_weighted_low float8, {reaction}_weighted_high float8,'''
        for reaction in REACTIONS
    )
}
    rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8,
    weighted_mean_reward float8, weighted_mean_reward_low float8, weighted_mean_reward_high float8,
    effective_sample_size float8, unsupported bigint, unknown_because text
"""

VIEWS = {
    "tip_scores": """
        user_id text, decision_id uuid, tip_id text, content text, policy text, prompt_version text, generation_id uuid,
        prompt_probability float8, score float8, propensity float8, exploring boolean, candidates integer,
        decision_number bigint, served_at timestamptz, reward float8, reaction text, rewarded_at timestamptz,
        supported boolean
    """,
    "decision_log": """
        user_id text, decision_id uuid, decided_at timestamptz, policy text, decision_number bigint, tip_id text,
        content text, prompt_version text, prompt_probability float8, generation_id uuid, score float8,
        propensity float8, exploring boolean, exploration float8, alpha float8, prior_version integer, context jsonb,
        features jsonb, x float8[], candidates jsonb, reward float8, reward_status text, rewarded_at timestamptz,
        reward_changes bigint
    """,
    "reaction_rates": REACTION_RATES,
    "reaction_rates_by_day": f"day date, {REACTION_RATES}",
    "learning_curve": """
        policy text, first_decision bigint, last_decision bigint, decisions bigint, rewarded bigint,
        mean_reward float8, mean_reward_low float8, mean_reward_high float8
    """,
    "prior_history": """
        policy text, version integer, fitted_at timestamptz, users bigint, rewards bigint, noise_variance float8,
        largest_change float8, changed_feature integer
    """,
    "learning_by_prior": """
        policy text, first_version integer, last_version integer, first_decision bigint, last_decision bigint,
        decisions bigint, rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8
    """,
    "rewards_by_day": """
        day date, exploring boolean, shown bigint, rewarded bigint,
        mean_reward float8, mean_reward_low float8, mean_reward_high float8
    """,
    "policy_values": """
        policy text, shown bigint, rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8,
        random_mean_reward float8, random_mean_reward_low float8, random_mean_reward_high float8,
        gain float8, gain_low float8, gain_high float8, effective_sample_size float8, unsupported bigint,
        unknown_because text, estimator text
    """,
    "policy_lift": """
        policy text, hold_out text, decisions bigint, share float8, rewarded bigint, user_groups bigint,
        mean_reward float8, mean_reward_low float8, mean_reward_high float8,
        lift float8, lift_low float8, lift_high float8, probability_best float8, unknown_because text
    """,
    "policy_traffic_by_day": "day date, policy text, decisions bigint, share float8",
    "prompt_costs": """
        prompt_version text, calls bigint, failed bigint, retries bigint, prompt_tokens bigint,
        completion_tokens bigint, latency_p50_ms float8, latency_p95_ms float8, done bigint, tokens_per_done float8,
        cost float8, cost_per_done float8
    """,
    "loop_health": """
        check_name text, policy text, value float8, expected float8, p_value float8, status text, reason text
    """,
}

FUNCTIONS = {
    "ips": "reward float8, p_target float8, p_logged float8, user_id anycompatible -> analytics.estimate",
    "snips": "reward float8, p_target float8, p_logged float8, user_id anycompatible -> analytics.estimate",
    "dr": (
        "reward float8, q_logged_action float8, q_target float8, p_target float8, p_logged float8,"
        " user_id anycompatible -> analytics.estimate"
    ),
    "ess": "p_target float8, p_logged float8, user_id anycompatible -> float8",
    "mean_weight": "p_target float8, p_logged float8 -> float8",
    "support_limit": "-> float8",
    "least_draws": "-> integer",
    "unknown_because": "decisions float8, choices float8, drawn float8, unsupported float8 -> text",
    "user_group": "user_id text -> integer",
    "t95": "degrees float8 -> float8",
    "wilson_low": "rate float8, n float8, reach float8 DEFAULT 1.959963984540054 -> float8",
    "wilson_high": "rate float8, n float8, reach float8 DEFAULT 1.959963984540054 -> float8",
    "mean_margin": "n float8, sum float8, sum_squared float8 -> float8",
    "ratio_error": ("n float8, sum_y float8, sum_x float8, sum_yy float8, sum_xy float8, sum_xx float8 -> float8"),
    "ratio_margin": ("n float8, sum_y float8, sum_x float8, sum_yy float8, sum_xy float8, sum_xx float8 -> float8"),
    "rate_size": "rate float8, error float8, most float8 -> float8",
    "probabilities_best": "means float8[], errors float8[] -> float8[]",
    "two_sided_p": "z float8 -> float8",
}
ESTIMATE = (
    "n bigint, estimate float8, variance float8, low float8, high float8, mean_weight float8, unknown_because text,"
    " user_groups bigint"
)

COLUMNS = """
    SELECT
        c.relname,
        string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'analytics'::regnamespace AND c.relkind = :kind
    GROUP BY c.relname
"""
SIGNATURES = """
    SELECT proname, format('%s -> %s', pg_get_function_arguments(oid), pg_get_function_result(oid))
    FROM pg_proc
    WHERE pronamespace = 'analytics'::regnamespace
"""
WITHOUT_COMMENT = """
    SELECT format('%s.%s', n.nspname, o.name)
    FROM pg_namespace AS n
    CROSS JOIN LATERAL (
        SELECT c.relname AS name, c.oid, 'pg_class' AS catalog, 0 AS part
        FROM pg_class AS c
        WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
            AND c.relname <> 'alembic_version'
        UNION ALL
        SELECT format('%s.%s', c.relname, a.attname), c.oid, 'pg_class', a.attnum
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'c') AND NOT c.relispartition
            AND c.relname <> 'alembic_version'
        UNION ALL
        SELECT p.proname, p.oid, 'pg_proc', 0 FROM pg_proc AS p WHERE p.pronamespace = n.oid
        UNION ALL
        SELECT t.typname, t.oid, 'pg_type', 0
        FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
        WHERE t.typnamespace = n.oid AND c.relkind = 'c'
        UNION ALL
        SELECT 'itself', n.oid, 'pg_namespace', 0
    ) AS o
    WHERE n.nspname IN ('oo_ml', 'analytics', 'rollup') AND NOT EXISTS (
        SELECT FROM pg_description AS d
        WHERE d.objoid = o.oid AND d.classoid = o.catalog::regclass AND d.objsubid = o.part AND d.description <> ''
    )
"""


def test_views(db: Engine) -> None:
    """Each view has these columns with these types, in order."""
    assert read_descriptions(db, COLUMNS, kind="v") == {name: join_lines(columns) for name, columns in VIEWS.items()}


def test_functions(db: Engine) -> None:
    """Each function has these arguments and results, by name."""
    signatures = read_descriptions(db, SIGNATURES)
    assert {name: join_lines(signatures[name]) for name in FUNCTIONS} == {
        name: join_lines(one) for name, one in FUNCTIONS.items()
    }
    assert read_descriptions(db, COLUMNS, kind="c") == {"estimate": join_lines(ESTIMATE)}


def test_comments(db: Engine) -> None:
    """Every table, view, column, function, aggregate and type of all three schemas has a comment."""
    with db.begin() as connection:
        assert connection.scalars(text(WITHOUT_COMMENT)).all() == []


def read_descriptions(db: Engine, statement: str, **parameters: object) -> dict[str, str]:
    """Return names with their descriptions; types have their short names."""
    with db.begin() as connection:
        rows = connection.execute(text(statement), parameters).all()
    return {
        name: what.replace("double precision", "float8").replace("timestamp with time zone", "timestamptz")
        for name, what in rows
    }


def join_lines(text: str) -> str:
    """Return the text on one line."""
    return " ".join(text.split())
