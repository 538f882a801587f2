-- A decision, in as few statements as SQL takes: lock the state; count the decision and write it down; COMMIT.
-- The computed values come as parameters, which PostgreSQL has to read each time, as it does from the service.
\set user random(:first_user, :last_user)
BEGIN;
SELECT epoch, version, pulls, explore_count, reward_count, cumulative_reward, last_updated, a, b
FROM oo_ml.policy_state
WHERE user_id = :user AND policy = 'linucb-v1'
FOR NO KEY UPDATE;
WITH decided AS (
    UPDATE oo_ml.policy_state
    SET pulls = pulls + 1, last_updated = now()
    WHERE user_id = :user AND policy = 'linucb-v1'
    RETURNING user_id, policy, epoch, version
)
INSERT INTO oo_ml.feature_history (
    user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id, prompt_version,
    generation_id, x, context, features, candidates, answer, request_digest, exploration, alpha, exploit, explore,
    propensities
)
SELECT
    user_id, uuidv7(), policy, epoch, version, now(), CAST(:score AS float8), CAST(:propensity AS float8),
    CAST(:exploring AS boolean), CAST(:tip_id AS text), NULL, NULL, CAST(:x AS float8[]), CAST(:context AS jsonb),
    CAST(:features AS jsonb), CAST(:candidates AS jsonb), CAST(:answer AS jsonb), NULL, CAST(:exploration AS float8),
    CAST(:alpha AS float8), CAST(:exploit AS float8[]), CAST(:explore AS float8[]), CAST(:propensities AS float8[])
FROM decided;
COMMIT;
