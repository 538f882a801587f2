-- A reward for an open decision, likewise: lock the state; learn, write the reward down with its decision and in the
-- ledger; COMMIT. Clients take the open decisions in turn; see open_decisions.py, which computes the same names.
\set turn :turn + 1
\set place (:rewarded + :turn * :clients + :client_id) * 611953 % :open_decisions
\set user :first_user + :place % :users
\set time :first_time + :place
BEGIN;
-- The columns that it returns, a and b among them, are the parameters of the next statement.
SELECT
    epoch, version, pulls, explore_count, reward_count, cumulative_reward, last_updated, a, b,
    CAST(
        lpad(to_hex(CAST(:time AS bigint)), 12, '0') || '70008000' || lpad(CAST(:place AS text), 12, '0') AS uuid
    ) AS decision_id
FROM oo_ml.policy_state
WHERE user_id = :user AND policy = 'linucb-v1'
FOR NO KEY UPDATE \gset
WITH learned AS (
    UPDATE oo_ml.policy_state
    SET version = version + 1, reward_count = reward_count + 1,
        cumulative_reward = cumulative_reward + CAST(:reward AS float8), last_updated = now(),
        a = CAST(:a AS float8[]), b = CAST(:b AS float8[])
    WHERE user_id = :user AND policy = 'linucb-v1'
    RETURNING user_id, policy, epoch, version
), rewarded AS (
    UPDATE oo_ml.feature_history
    SET reward = CAST(:reward AS float8), rewarded_at = now(), reward_kind = NULL
    WHERE user_id = :user AND decision_id = CAST(:decision_id AS uuid)
)
INSERT INTO oo_ml.reward_ledger (
    user_id, policy, epoch, version, recorded_at, kind, reward, previous_reward, x, tip_id, decision_id, corrects,
    idempotency_key, request_digest
)
SELECT
    user_id, policy, epoch, version, now(), 'reward', CAST(:reward AS float8), NULL, CAST(:x AS float8[]),
    CAST(:tip_id AS text), CAST(:decision_id AS uuid), NULL, NULL, NULL
FROM learned;
COMMIT;
