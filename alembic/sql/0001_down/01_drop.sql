-- Drop every object of 0001 by name and without CASCADE: if an object of another application depends on one of these,
-- PostgreSQL refuses and nothing is dropped. Schema oo_ml stays, with alembic_version and with detached months.

DROP VIEW
    analytics.learning_by_prior, analytics.prior_history, analytics.policy_traffic_by_day, analytics.policy_lift, analytics.policy_values, analytics.loop_health, analytics.prompt_costs, analytics.rewards_by_day,
    analytics.learning_curve, analytics.reaction_rates, analytics.reaction_rates_by_day, analytics.tip_scores,
    analytics.decision_log;

DROP ROUTINE
    analytics.learning_by_prior_between, analytics.prior_history_between,
    analytics.policy_traffic_by_day_between, analytics.policy_lift_between, analytics.lift_unknown_because,
    analytics.probabilities_best, analytics.policy_values_between, rollup.error_margin, analytics.loop_health_between,
    analytics.prompt_costs_between, analytics.rewards_by_day_between,
    analytics.learning_curve_between, analytics.reaction_rates_between,
    analytics.mean_weight, analytics.ess, analytics.dr, analytics.snips, analytics.ips,
    analytics.estimator_mean_weight, analytics.estimator_size, analytics.estimator_ratio, analytics.estimator_mean,
    analytics.as_estimate, analytics.estimator_mean_weight_step,
    analytics.estimator_ess_step, analytics.estimator_snips_step, analytics.estimator_dr_step,
    analytics.estimator_ips_step, analytics.weight_unknown_because, analytics.estimator_error,
    analytics.estimator_groups, analytics.estimator_add, analytics.importance_weight,
    analytics.two_sided_p, analytics.rate_size, analytics.ratio_margin, analytics.ratio_error, analytics.mean_margin,
    analytics.wilson_high, analytics.wilson_low, analytics.t95, analytics.unknown_because, analytics.least_draws,
    analytics.support_limit;

DROP TYPE analytics.estimate;

DROP VIEW
    rollup.done, rollup.done_cells, rollup.latencies, rollup.costs, rollup.uncounted_costs, rollup.rewards, rollup.exploration, rollup.delays, rollup.first_decisions,
    rollup.learning, rollup.user_groups, rollup.reactions, rollup.uncounted, rollup.cost_cells, rollup.reward_cells, rollup.exploration_cells,
    rollup.arrival_cells, rollup.departure_cells, rollup.decision_cells;

DROP FUNCTION
    rollup.count_z, rollup.latency_step, rollup.delay_step, rollup.first_of_versions, rollup.first_of_five, rollup.pull_step, rollup.reaction,
    rollup.unsupported, rollup.choice, rollup.random_estimate, rollup.expected, rollup.amount, rollup.weight,
    analytics.user_group;

DROP TABLE oo_ml.policy_priors, oo_ml.policy_traffic, oo_ml.policies, oo_ml.audit_log, oo_ml.api_keys;

DROP TABLE
    oo_ml.daily_latencies, oo_ml.daily_done, oo_ml.daily_rewards, oo_ml.daily_costs, oo_ml.daily_exploration, oo_ml.daily_delays, oo_ml.daily_first_decisions,
    oo_ml.daily_learning,
    oo_ml.daily_user_groups, oo_ml.daily_reactions, oo_ml.counted, oo_ml.upkeep;

DROP TABLE
    oo_ml.model_prices, oo_ml.prompt_assignments, oo_ml.tips, oo_ml.generations, oo_ml.prompt_versions,
    oo_ml.reward_ledger, oo_ml.feature_history, oo_ml.policy_state;

DROP FUNCTION
    oo_ml.summarize_positions, oo_ml.detach_feature_history_months, oo_ml.create_feature_history_months,
    oo_ml.refuse_change_of_prompt_version, oo_ml.refuse_change_of_policy, oo_ml.refuse_change_of_prior;

-- Detached months must not depend on the sequence that is dropped below.
DO $$
DECLARE
    detached regclass;
BEGIN
    FOR detached IN
        SELECT c.oid FROM pg_class AS c
        WHERE c.relnamespace = 'oo_ml'::regnamespace AND c.relname ~ '^feature_history_[0-9]{4}_[0-9]{2}$'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN position DROP DEFAULT', detached);
    END LOOP;
END
$$;

DROP SEQUENCE oo_ml.generations_order, oo_ml.reward_ledger_order, oo_ml.feature_history_order;

-- Both schemas stay if another application uses them too.
DO $$
BEGIN
    DROP SCHEMA analytics;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
    NULL;
END
$$;

DO $$
BEGIN
    DROP SCHEMA rollup;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
    NULL;
END
$$;
