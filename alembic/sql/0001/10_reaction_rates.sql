-- A rate is a share of the decisions shown; a mean is of rewards that count, received or assumed. In weighted numbers
-- each decision counts rollup.weight times: the result is as if every candidate had been shown equally often. They are
-- NULL if the decisions do not tell that: of the row, or of all that its versions were chosen among. A version may only
-- have been shown where there was no choice, and another one not at all.
--
-- Users are the sample, in groups (ADR 26): intervals come from the sums of each group of users. Those of shares are
-- Wilson's, with the number of independent decisions that would have the same standard error.

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
    -- In steps, because exact sums are slow: over days, then by reaction, then over groupings, then over groups of users.
    WITH by_reaction AS (
        SELECT
            CASE WHEN by_day THEN r.day END AS day,
            r.prompt_version,
            r.policy,
            r.user_group,
            r.reaction,
            CAST(sum(r.decisions) AS float8) AS decisions,
            CAST(sum(r.weights) AS float8) AS weights,
            CAST(sum(r.weights_squared) AS float8) AS weights_squared,
            CAST(sum(r.rewards) AS float8) AS rewards,
            CAST(sum(r.weighted_rewards) AS float8) AS weighted_rewards,
            CAST(coalesce(sum(r.decisions) FILTER (WHERE r.exploring), 0) AS float8) AS drawn,
            CAST(sum(r.choices) AS float8) AS choices,
            CAST(sum(r.unsupported) AS float8) AS unsupported
        FROM rollup.user_groups AS r
        WHERE r.day >= coalesce(since, '-infinity') AND r.day <= coalesce(until, 'infinity')
        GROUP BY CASE WHEN by_day THEN r.day END, r.prompt_version, r.policy, r.user_group, r.reaction
        HAVING sum(r.decisions) > 0
    ), cells AS (
        SELECT
            s.day,
            s.prompt_version,
            s.policy,
            s.user_group,
            sum(s.decisions) AS shown,
            sum(s.weights) AS weights,
            sum(s.weights_squared) AS weights_squared,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction NOT IN ('none', 'default')), 0) AS reacted,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction NOT IN ('none', 'default')), 0) AS reacted_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction = 'done'), 0) AS done,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction = 'done'), 0) AS done_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction = 'helpful'), 0) AS helpful,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction = 'helpful'), 0) AS helpful_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction = 'snooze'), 0) AS snooze,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction = 'snooze'), 0) AS snooze_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction = 'not_helpful'), 0) AS not_helpful,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction = 'not_helpful'), 0) AS not_helpful_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction = 'dismiss'), 0) AS dismiss,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction = 'dismiss'), 0) AS dismiss_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction = 'other'), 0) AS other,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction = 'other'), 0) AS other_weights,
            coalesce(sum(s.decisions) FILTER (WHERE s.reaction <> 'none'), 0) AS rewarded,
            coalesce(sum(s.weights) FILTER (WHERE s.reaction <> 'none'), 0) AS rewarded_weights,
            sum(s.rewards) AS rewards,
            sum(s.weighted_rewards) AS weighted_rewards,
            sum(s.drawn) AS drawn,
            sum(s.choices) AS choices,
            sum(s.unsupported) AS unsupported
        FROM by_reaction AS s
        GROUP BY s.day, s.prompt_version, s.policy, s.user_group
    ), groups AS (
        SELECT
            c.day,
            CASE GROUPING(c.prompt_version, c.policy)
                WHEN 0 THEN 'both' WHEN 1 THEN 'prompt_version' WHEN 2 THEN 'policy' ELSE 'all'
            END AS grouped_by,
            c.prompt_version,
            c.policy,
            sum(c.shown) AS shown, sum(c.weights) AS weights, sum(c.weights_squared) AS weights_squared,
            sum(c.reacted) AS reacted, sum(c.reacted_weights) AS reacted_weights,
            sum(c.done) AS done, sum(c.done_weights) AS done_weights,
            sum(c.helpful) AS helpful, sum(c.helpful_weights) AS helpful_weights,
            sum(c.snooze) AS snooze, sum(c.snooze_weights) AS snooze_weights,
            sum(c.not_helpful) AS not_helpful, sum(c.not_helpful_weights) AS not_helpful_weights,
            sum(c.dismiss) AS dismiss, sum(c.dismiss_weights) AS dismiss_weights,
            sum(c.other) AS other, sum(c.other_weights) AS other_weights,
            sum(c.rewarded) AS rewarded, sum(c.rewarded_weights) AS rewarded_weights,
            sum(c.rewards) AS rewards, sum(c.weighted_rewards) AS weighted_rewards,
            sum(c.drawn) AS drawn, sum(c.choices) AS choices, sum(c.unsupported) AS unsupported
        FROM cells AS c
        GROUP BY c.day, c.user_group,
            GROUPING SETS ((c.prompt_version, c.policy), (c.prompt_version), (c.policy), ())
    ), sums AS (
        SELECT
            g.day,
            g.grouped_by,
            g.prompt_version,
            g.policy,
            count(*) AS user_groups,
            sum(g.shown) AS shown,
            sum(g.reacted) AS reacted,
            sum(g.reacted_weights) AS reacted_weights,
            analytics.ratio_error(
                count(*), sum(g.reacted), sum(g.shown), sum(g.reacted * g.reacted), sum(g.reacted * g.shown), sum(g.shown * g.shown)
            ) AS reacted_error,
            analytics.ratio_error(
                count(*), sum(g.reacted_weights), sum(g.weights), sum(g.reacted_weights * g.reacted_weights),
                sum(g.reacted_weights * g.weights), sum(g.weights * g.weights)
            ) AS reacted_weights_error,
            sum(g.done) AS done,
            sum(g.done_weights) AS done_weights,
            analytics.ratio_error(
                count(*), sum(g.done), sum(g.shown), sum(g.done * g.done), sum(g.done * g.shown), sum(g.shown * g.shown)
            ) AS done_error,
            analytics.ratio_error(
                count(*), sum(g.done_weights), sum(g.weights), sum(g.done_weights * g.done_weights),
                sum(g.done_weights * g.weights), sum(g.weights * g.weights)
            ) AS done_weights_error,
            sum(g.helpful) AS helpful,
            sum(g.helpful_weights) AS helpful_weights,
            analytics.ratio_error(
                count(*), sum(g.helpful), sum(g.shown), sum(g.helpful * g.helpful), sum(g.helpful * g.shown), sum(g.shown * g.shown)
            ) AS helpful_error,
            analytics.ratio_error(
                count(*), sum(g.helpful_weights), sum(g.weights), sum(g.helpful_weights * g.helpful_weights),
                sum(g.helpful_weights * g.weights), sum(g.weights * g.weights)
            ) AS helpful_weights_error,
            sum(g.snooze) AS snooze,
            sum(g.snooze_weights) AS snooze_weights,
            analytics.ratio_error(
                count(*), sum(g.snooze), sum(g.shown), sum(g.snooze * g.snooze), sum(g.snooze * g.shown), sum(g.shown * g.shown)
            ) AS snooze_error,
            analytics.ratio_error(
                count(*), sum(g.snooze_weights), sum(g.weights), sum(g.snooze_weights * g.snooze_weights),
                sum(g.snooze_weights * g.weights), sum(g.weights * g.weights)
            ) AS snooze_weights_error,
            sum(g.not_helpful) AS not_helpful,
            sum(g.not_helpful_weights) AS not_helpful_weights,
            analytics.ratio_error(
                count(*), sum(g.not_helpful), sum(g.shown), sum(g.not_helpful * g.not_helpful), sum(g.not_helpful * g.shown), sum(g.shown * g.shown)
            ) AS not_helpful_error,
            analytics.ratio_error(
                count(*), sum(g.not_helpful_weights), sum(g.weights), sum(g.not_helpful_weights * g.not_helpful_weights),
                sum(g.not_helpful_weights * g.weights), sum(g.weights * g.weights)
            ) AS not_helpful_weights_error,
            sum(g.dismiss) AS dismiss,
            sum(g.dismiss_weights) AS dismiss_weights,
            analytics.ratio_error(
                count(*), sum(g.dismiss), sum(g.shown), sum(g.dismiss * g.dismiss), sum(g.dismiss * g.shown), sum(g.shown * g.shown)
            ) AS dismiss_error,
            analytics.ratio_error(
                count(*), sum(g.dismiss_weights), sum(g.weights), sum(g.dismiss_weights * g.dismiss_weights),
                sum(g.dismiss_weights * g.weights), sum(g.weights * g.weights)
            ) AS dismiss_weights_error,
            sum(g.other) AS other,
            sum(g.other_weights) AS other_weights,
            analytics.ratio_error(
                count(*), sum(g.other), sum(g.shown), sum(g.other * g.other), sum(g.other * g.shown), sum(g.shown * g.shown)
            ) AS other_error,
            analytics.ratio_error(
                count(*), sum(g.other_weights), sum(g.weights), sum(g.other_weights * g.other_weights),
                sum(g.other_weights * g.weights), sum(g.weights * g.weights)
            ) AS other_weights_error,
            sum(g.weights) AS weights,
            sum(g.weights) * sum(g.weights) / nullif(sum(g.weights_squared), 0) AS size,
            sum(g.rewarded) AS rewarded,
            sum(g.rewards) AS rewards,
            analytics.ratio_margin(
                count(*) FILTER (WHERE g.rewarded > 0), sum(g.rewards), sum(g.rewarded),
                sum(g.rewards * g.rewards), sum(g.rewards * g.rewarded), sum(g.rewarded * g.rewarded)
            ) AS margin,
            sum(g.rewarded_weights) AS rewarded_weights,
            sum(g.weighted_rewards) AS weighted_rewards,
            analytics.ratio_margin(
                count(*) FILTER (WHERE g.rewarded > 0), sum(g.weighted_rewards), sum(g.rewarded_weights),
                sum(g.weighted_rewards * g.weighted_rewards), sum(g.weighted_rewards * g.rewarded_weights),
                sum(g.rewarded_weights * g.rewarded_weights)
            ) AS weighted_margin,
            sum(g.drawn) AS drawn,
            sum(g.choices) AS choices,
            sum(g.unsupported) AS unsupported
        FROM groups AS g
        GROUP BY g.day, g.grouped_by, g.prompt_version, g.policy
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
            analytics.t95(s.user_groups - 1) AS reach,
            s.rewards / nullif(s.rewarded, 0) AS mean,
            CASE WHEN s.unknown_because IS NULL THEN s.weighted_rewards / nullif(s.rewarded_weights, 0) END AS weighted_mean,
            CASE WHEN s.unknown_because IS NULL THEN s.weights END AS known_weights,
            CASE WHEN s.unknown_because IS NULL THEN s.size END AS known_size
        FROM judged AS s
    )
    SELECT
        m.day,
        m.grouped_by,
        m.prompt_version,
        m.policy,
        CAST(m.shown AS bigint),
        CAST(m.reacted AS bigint),
        m.reacted / m.shown,
        analytics.wilson_low(m.reacted / m.shown, analytics.rate_size(m.reacted / m.shown, m.reacted_error, m.shown), m.reach),
        analytics.wilson_high(m.reacted / m.shown, analytics.rate_size(m.reacted / m.shown, m.reacted_error, m.shown), m.reach),
        m.reacted_weights / m.known_weights,
        analytics.wilson_low(
            m.reacted_weights / m.known_weights,
            analytics.rate_size(m.reacted_weights / m.known_weights, m.reacted_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.reacted_weights / m.known_weights,
            analytics.rate_size(m.reacted_weights / m.known_weights, m.reacted_weights_error, m.known_size), m.reach
        ),
        CAST(m.done AS bigint),
        m.done / m.shown,
        analytics.wilson_low(m.done / m.shown, analytics.rate_size(m.done / m.shown, m.done_error, m.shown), m.reach),
        analytics.wilson_high(m.done / m.shown, analytics.rate_size(m.done / m.shown, m.done_error, m.shown), m.reach),
        m.done_weights / m.known_weights,
        analytics.wilson_low(
            m.done_weights / m.known_weights,
            analytics.rate_size(m.done_weights / m.known_weights, m.done_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.done_weights / m.known_weights,
            analytics.rate_size(m.done_weights / m.known_weights, m.done_weights_error, m.known_size), m.reach
        ),
        CAST(m.helpful AS bigint),
        m.helpful / m.shown,
        analytics.wilson_low(m.helpful / m.shown, analytics.rate_size(m.helpful / m.shown, m.helpful_error, m.shown), m.reach),
        analytics.wilson_high(m.helpful / m.shown, analytics.rate_size(m.helpful / m.shown, m.helpful_error, m.shown), m.reach),
        m.helpful_weights / m.known_weights,
        analytics.wilson_low(
            m.helpful_weights / m.known_weights,
            analytics.rate_size(m.helpful_weights / m.known_weights, m.helpful_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.helpful_weights / m.known_weights,
            analytics.rate_size(m.helpful_weights / m.known_weights, m.helpful_weights_error, m.known_size), m.reach
        ),
        CAST(m.snooze AS bigint),
        m.snooze / m.shown,
        analytics.wilson_low(m.snooze / m.shown, analytics.rate_size(m.snooze / m.shown, m.snooze_error, m.shown), m.reach),
        analytics.wilson_high(m.snooze / m.shown, analytics.rate_size(m.snooze / m.shown, m.snooze_error, m.shown), m.reach),
        m.snooze_weights / m.known_weights,
        analytics.wilson_low(
            m.snooze_weights / m.known_weights,
            analytics.rate_size(m.snooze_weights / m.known_weights, m.snooze_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.snooze_weights / m.known_weights,
            analytics.rate_size(m.snooze_weights / m.known_weights, m.snooze_weights_error, m.known_size), m.reach
        ),
        CAST(m.not_helpful AS bigint),
        m.not_helpful / m.shown,
        analytics.wilson_low(m.not_helpful / m.shown, analytics.rate_size(m.not_helpful / m.shown, m.not_helpful_error, m.shown), m.reach),
        analytics.wilson_high(m.not_helpful / m.shown, analytics.rate_size(m.not_helpful / m.shown, m.not_helpful_error, m.shown), m.reach),
        m.not_helpful_weights / m.known_weights,
        analytics.wilson_low(
            m.not_helpful_weights / m.known_weights,
            analytics.rate_size(m.not_helpful_weights / m.known_weights, m.not_helpful_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.not_helpful_weights / m.known_weights,
            analytics.rate_size(m.not_helpful_weights / m.known_weights, m.not_helpful_weights_error, m.known_size), m.reach
        ),
        CAST(m.dismiss AS bigint),
        m.dismiss / m.shown,
        analytics.wilson_low(m.dismiss / m.shown, analytics.rate_size(m.dismiss / m.shown, m.dismiss_error, m.shown), m.reach),
        analytics.wilson_high(m.dismiss / m.shown, analytics.rate_size(m.dismiss / m.shown, m.dismiss_error, m.shown), m.reach),
        m.dismiss_weights / m.known_weights,
        analytics.wilson_low(
            m.dismiss_weights / m.known_weights,
            analytics.rate_size(m.dismiss_weights / m.known_weights, m.dismiss_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.dismiss_weights / m.known_weights,
            analytics.rate_size(m.dismiss_weights / m.known_weights, m.dismiss_weights_error, m.known_size), m.reach
        ),
        CAST(m.other AS bigint),
        m.other / m.shown,
        analytics.wilson_low(m.other / m.shown, analytics.rate_size(m.other / m.shown, m.other_error, m.shown), m.reach),
        analytics.wilson_high(m.other / m.shown, analytics.rate_size(m.other / m.shown, m.other_error, m.shown), m.reach),
        m.other_weights / m.known_weights,
        analytics.wilson_low(
            m.other_weights / m.known_weights,
            analytics.rate_size(m.other_weights / m.known_weights, m.other_weights_error, m.known_size), m.reach
        ),
        analytics.wilson_high(
            m.other_weights / m.known_weights,
            analytics.rate_size(m.other_weights / m.known_weights, m.other_weights_error, m.known_size), m.reach
        ),
        CAST(m.rewarded AS bigint),
        m.mean,
        m.mean - m.margin,
        m.mean + m.margin,
        m.weighted_mean,
        m.weighted_mean - m.weighted_margin,
        m.weighted_mean + m.weighted_margin,
        m.known_size,
        CAST(m.unsupported AS bigint),
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
                ['_low', 'Lower end of the 95 % interval of the share (Wilson), from groups of users; null below two groups'],
                ['_high', 'Upper end of its 95 % interval'],
                ['_weighted_rate', 'Weighted share: each decision counts 1 / (propensity x prompt_probability) times'],
                ['_weighted_low', 'Lower end of its 95 % interval, in the same way'],
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
            ['mean_reward_low', 'Lower end of its 95 % interval, from groups of users; null below two groups'],
            ['mean_reward_high', 'Upper end of its 95 % interval'],
            ['weighted_mean_reward', 'Weighted mean: each reward counts 1 / (propensity x prompt_probability) times'],
            ['weighted_mean_reward_low', 'Lower end of its 95 % interval, in the same way'],
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
