-- A rate is a share of the decisions shown; a mean is of rewards that count, received or assumed. In weighted numbers
-- each decision counts rollup.weight times: the result is as if every candidate had been shown equally often. They are
-- NULL if the decisions do not tell that: of the row, or of all that its versions were chosen among. A version may only
-- have been shown where there was no choice, and another one not at all.

CREATE FUNCTION analytics.reaction_rates_between(since date, until date, by_day boolean DEFAULT false)
RETURNS TABLE (
    day date, grouped_by text, prompt_version text, policy text, shown bigint,
    reacted bigint, reacted_rate float8, reacted_low float8, reacted_high float8,
    reacted_weighted_rate float8, reacted_weighted_low float8, reacted_weighted_high float8,
    done bigint, done_rate float8, done_low float8, done_high float8,
    done_weighted_rate float8, done_weighted_low float8, done_weighted_high float8,
    helpful bigint, helpful_rate float8, helpful_low float8, helpful_high float8,
    helpful_weighted_rate float8, helpful_weighted_low float8, helpful_weighted_high float8,
    snooze bigint, snooze_rate float8, snooze_low float8, snooze_high float8,
    snooze_weighted_rate float8, snooze_weighted_low float8, snooze_weighted_high float8,
    not_helpful bigint, not_helpful_rate float8, not_helpful_low float8, not_helpful_high float8,
    not_helpful_weighted_rate float8, not_helpful_weighted_low float8, not_helpful_weighted_high float8,
    dismiss bigint, dismiss_rate float8, dismiss_low float8, dismiss_high float8,
    dismiss_weighted_rate float8, dismiss_weighted_low float8, dismiss_weighted_high float8,
    other bigint, other_rate float8, other_low float8, other_high float8,
    other_weighted_rate float8, other_weighted_low float8, other_weighted_high float8,
    rewarded bigint, mean_reward float8, mean_reward_low float8, mean_reward_high float8,
    weighted_mean_reward float8, weighted_mean_reward_low float8, weighted_mean_reward_high float8,
    effective_sample_size float8, unsupported bigint, unknown_because text
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100
BEGIN ATOMIC
    WITH sums AS (
        SELECT
            CASE WHEN by_day THEN r.day END AS day,
            CASE GROUPING(r.prompt_version, r.policy)
                WHEN 0 THEN 'both' WHEN 1 THEN 'prompt_version' WHEN 2 THEN 'policy' ELSE 'all'
            END AS grouped_by,
            r.prompt_version,
            r.policy,
            CAST(sum(r.decisions) AS bigint) AS shown,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction NOT IN ('none', 'default')), 0) AS bigint) AS reacted,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction NOT IN ('none', 'default')), 0) AS float8) AS reacted_weights,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction = 'done'), 0) AS bigint) AS done,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction = 'done'), 0) AS float8) AS done_weights,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction = 'helpful'), 0) AS bigint) AS helpful,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction = 'helpful'), 0) AS float8) AS helpful_weights,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction = 'snooze'), 0) AS bigint) AS snooze,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction = 'snooze'), 0) AS float8) AS snooze_weights,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction = 'not_helpful'), 0) AS bigint) AS not_helpful,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction = 'not_helpful'), 0) AS float8) AS not_helpful_weights,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction = 'dismiss'), 0) AS bigint) AS dismiss,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction = 'dismiss'), 0) AS float8) AS dismiss_weights,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction = 'other'), 0) AS bigint) AS other,
            CAST(coalesce(sum(r.weights) FILTER (WHERE r.reaction = 'other'), 0) AS float8) AS other_weights,
            CAST(sum(r.weights) AS float8) AS weights,
            CAST(sum(r.weights) * sum(r.weights) / nullif(sum(r.weights_squared), 0) AS float8) AS size,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.reaction <> 'none'), 0) AS bigint) AS rewarded,
            CAST(sum(r.rewards) AS float8) AS rewards,
            CAST(sum(r.rewards_squared) AS float8) AS rewards_squared,
            CAST(sum(r.weights) FILTER (WHERE r.reaction <> 'none') AS float8) AS rewarded_weights,
            CAST(sum(r.weights_squared) FILTER (WHERE r.reaction <> 'none') AS float8) AS rewarded_weights_squared,
            CAST(sum(r.weighted_rewards) AS float8) AS weighted_rewards,
            CAST(sum(r.squared_weights_rewards) AS float8) AS squared_weights_rewards,
            CAST(sum(r.weighted_rewards_squared) AS float8) AS weighted_rewards_squared,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.exploring), 0) AS bigint) AS drawn,
            CAST(sum(r.choices) AS bigint) AS choices,
            CAST(sum(r.unsupported) AS bigint) AS unsupported
        FROM rollup.reactions AS r
        WHERE (since IS NULL OR r.day >= since) AND (until IS NULL OR r.day <= until)
        GROUP BY CASE WHEN by_day THEN r.day END,
            GROUPING SETS ((r.prompt_version, r.policy), (r.prompt_version), (r.policy), ())
        HAVING sum(r.decisions) > 0
    ), judged AS (
        SELECT
            s.*,
            CASE WHEN s.grouped_by = 'policy'
                THEN 'by policy, all weighted numbers estimate drawing at random: see analytics.policy_values'
                ELSE coalesce(
                    analytics.unknown_because(s.shown, s.choices, s.drawn, s.unsupported),
                    analytics.unknown_because(
                        sum(s.shown) OVER alternatives, sum(s.choices) OVER alternatives,
                        sum(s.drawn) OVER alternatives, sum(s.unsupported) OVER alternatives
                    )
                ) END AS unknown_because
        FROM sums AS s
        WINDOW alternatives AS (
            PARTITION BY s.day, s.grouped_by, CASE WHEN s.grouped_by = 'both' THEN s.policy END
        )
    ), means AS (
        SELECT
            s.*,
            CAST(s.shown AS float8) AS n,
            s.rewards / nullif(s.rewarded, 0) AS mean,
            analytics.mean_margin(s.rewarded, s.rewards, s.rewards_squared) AS margin,
            CASE WHEN s.unknown_because IS NULL THEN s.weighted_rewards / nullif(s.rewarded_weights, 0) END AS weighted_mean,
            analytics.weighted_margin(
                s.rewarded_weights, s.rewarded_weights_squared,
                s.weighted_rewards, s.squared_weights_rewards, s.weighted_rewards_squared
            ) AS weighted_margin,
            CASE WHEN s.unknown_because IS NULL THEN s.weights END AS known_weights,
            CASE WHEN s.unknown_because IS NULL THEN s.size END AS known_size
        FROM judged AS s
    )
    SELECT
        m.day,
        m.grouped_by,
        m.prompt_version,
        m.policy,
        m.shown,
        m.reacted,
        m.reacted / m.n,
        analytics.wilson_low(m.reacted / m.n, m.n),
        analytics.wilson_high(m.reacted / m.n, m.n),
        m.reacted_weights / m.known_weights,
        analytics.wilson_low(m.reacted_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.reacted_weights / m.known_weights, m.known_size),
        m.done,
        m.done / m.n,
        analytics.wilson_low(m.done / m.n, m.n),
        analytics.wilson_high(m.done / m.n, m.n),
        m.done_weights / m.known_weights,
        analytics.wilson_low(m.done_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.done_weights / m.known_weights, m.known_size),
        m.helpful,
        m.helpful / m.n,
        analytics.wilson_low(m.helpful / m.n, m.n),
        analytics.wilson_high(m.helpful / m.n, m.n),
        m.helpful_weights / m.known_weights,
        analytics.wilson_low(m.helpful_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.helpful_weights / m.known_weights, m.known_size),
        m.snooze,
        m.snooze / m.n,
        analytics.wilson_low(m.snooze / m.n, m.n),
        analytics.wilson_high(m.snooze / m.n, m.n),
        m.snooze_weights / m.known_weights,
        analytics.wilson_low(m.snooze_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.snooze_weights / m.known_weights, m.known_size),
        m.not_helpful,
        m.not_helpful / m.n,
        analytics.wilson_low(m.not_helpful / m.n, m.n),
        analytics.wilson_high(m.not_helpful / m.n, m.n),
        m.not_helpful_weights / m.known_weights,
        analytics.wilson_low(m.not_helpful_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.not_helpful_weights / m.known_weights, m.known_size),
        m.dismiss,
        m.dismiss / m.n,
        analytics.wilson_low(m.dismiss / m.n, m.n),
        analytics.wilson_high(m.dismiss / m.n, m.n),
        m.dismiss_weights / m.known_weights,
        analytics.wilson_low(m.dismiss_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.dismiss_weights / m.known_weights, m.known_size),
        m.other,
        m.other / m.n,
        analytics.wilson_low(m.other / m.n, m.n),
        analytics.wilson_high(m.other / m.n, m.n),
        m.other_weights / m.known_weights,
        analytics.wilson_low(m.other_weights / m.known_weights, m.known_size),
        analytics.wilson_high(m.other_weights / m.known_weights, m.known_size),
        m.rewarded,
        m.mean,
        m.mean - m.margin,
        m.mean + m.margin,
        m.weighted_mean,
        m.weighted_mean - m.weighted_margin,
        m.weighted_mean + m.weighted_margin,
        m.known_size,
        m.unsupported,
        m.unknown_because
    FROM means AS m;
END;
COMMENT ON FUNCTION analytics.reaction_rates_between IS
    'reaction_rates of the decisions from day `since` to day `until`, both included; null: no bound. by_day: one row a day';

CREATE VIEW analytics.reaction_rates_by_day AS
SELECT * FROM analytics.reaction_rates_between(NULL, NULL, true);
COMMENT ON VIEW analytics.reaction_rates_by_day IS 'reaction_rates by day of the decision, UTC';

CREATE VIEW analytics.reaction_rates AS
SELECT
    grouped_by, prompt_version, policy, shown,
    reacted, reacted_rate, reacted_low, reacted_high, reacted_weighted_rate, reacted_weighted_low, reacted_weighted_high,
    done, done_rate, done_low, done_high, done_weighted_rate, done_weighted_low, done_weighted_high,
    helpful, helpful_rate, helpful_low, helpful_high, helpful_weighted_rate, helpful_weighted_low, helpful_weighted_high,
    snooze, snooze_rate, snooze_low, snooze_high, snooze_weighted_rate, snooze_weighted_low, snooze_weighted_high,
    not_helpful, not_helpful_rate, not_helpful_low, not_helpful_high, not_helpful_weighted_rate, not_helpful_weighted_low, not_helpful_weighted_high,
    dismiss, dismiss_rate, dismiss_low, dismiss_high, dismiss_weighted_rate, dismiss_weighted_low, dismiss_weighted_high,
    other, other_rate, other_low, other_high, other_weighted_rate, other_weighted_low, other_weighted_high,
    rewarded, mean_reward, mean_reward_low, mean_reward_high,
    weighted_mean_reward, weighted_mean_reward_low, weighted_mean_reward_high, effective_sample_size,
    unsupported, unknown_because
FROM analytics.reaction_rates_between(NULL, NULL);
COMMENT ON VIEW analytics.reaction_rates IS
    'Reactions of users: one row for each prompt version, each policy, each pair of both, and one for all. Filter by grouped_by';

COMMENT ON COLUMN analytics.reaction_rates_by_day.day IS 'Day of the decisions, UTC';
DO $$
DECLARE
    view_name text;
    reaction text;
    place text[];
BEGIN
    FOREACH view_name IN ARRAY ARRAY['reaction_rates', 'reaction_rates_by_day'] LOOP
        FOREACH reaction IN ARRAY ARRAY['reacted', 'done', 'helpful', 'snooze', 'not_helpful', 'dismiss', 'other'] LOOP
            FOREACH place SLICE 1 IN ARRAY ARRAY[
                ['', 'Number of decisions with this reaction (reacted: with any; other: with a reward that has no name)'],
                ['_rate', 'Share of shown'],
                ['_low', 'Lower end of the 95 % interval of the share (Wilson)'],
                ['_high', 'Upper end of its 95 % interval'],
                ['_weighted_rate', 'Weighted share: each decision counts 1 / (propensity x prompt_probability) times'],
                ['_weighted_low', 'Lower end of its 95 % interval (Wilson, with n = effective_sample_size)'],
                ['_weighted_high', 'Upper end of its 95 % interval']
            ] LOOP
                EXECUTE format('COMMENT ON COLUMN analytics.%I.%I IS %L', view_name, reaction || place[1], place[2]);
            END LOOP;
        END LOOP;
        FOREACH place SLICE 1 IN ARRAY ARRAY[
            ['grouped_by', 'prompt_version, policy, both or all: the columns that the row is grouped by'],
            ['prompt_version', 'The prompt version; null: tips that no model wrote, or the row is not grouped by it'],
            ['policy', 'The policy; null: all'],
            ['shown', 'Number of decisions'],
            ['rewarded', 'Number of decisions with a reward that counts, received or assumed'],
            ['mean_reward', 'Mean of these rewards'],
            ['mean_reward_low', 'Lower end of its 95 % interval'],
            ['mean_reward_high', 'Upper end of its 95 % interval'],
            ['weighted_mean_reward', 'Weighted mean: each reward counts 1 / (propensity x prompt_probability) times'],
            ['weighted_mean_reward_low', 'Lower end of its 95 % interval'],
            ['weighted_mean_reward_high', 'Upper end of its 95 % interval'],
            ['effective_sample_size', 'Number of decisions of equal weight with the same information: sum(w)^2 / sum(w^2)'],
            ['unsupported', 'Number of decisions in which some candidate had no chance (propensity below 1e-12, or unknown)'],
            ['unknown_because', 'Reason why the weighted columns are null, if they are; see analytics.support_limit()']
        ] LOOP
            EXECUTE format('COMMENT ON COLUMN analytics.%I.%I IS %L', view_name, place[1], place[2]);
        END LOOP;
    END LOOP;
END
$$;
