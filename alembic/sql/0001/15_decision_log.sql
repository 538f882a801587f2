-- The log of decisions, for training or judging a policy of one's own. `oo-ml log export` writes this view to a file.

-- No aggregate and no join at the top: a filter on user_id, decision_id or decided_at reaches the indexes of the months.
-- A column that a query does not name costs nothing.
CREATE VIEW analytics.decision_log AS
SELECT
    h.user_id,
    h.decision_id,
    h.decided_at,
    h.policy,
    h.pull AS decision_number,
    h.tip_id,
    h.content,
    h.prompt_version,
    h.prompt_probability,
    h.generation_id,
    h.score,
    h.propensity,
    h.exploring,
    h.exploration,
    h.alpha,
    h.prior_version,
    h.context,
    -- Rows of the pre-release also have fields of the context here.
    CASE
        WHEN h.policy IN ('linucb-v1', 'egreedy-v1') THEN h.features - ARRAY['hour_of_day', 'day_of_week', 'exploring']
        ELSE h.features
    END AS features,
    h.x,
    (
        -- The decision itself has the text and version of the chosen tip. For another candidate the version is the one that
        -- the client sent, else that of the latest tip of the same id at the time, as in /score.
        SELECT coalesce(jsonb_agg(
            jsonb_build_object(
                'tip_id', c.candidate ->> 'id',
                'source', c.candidate ->> 'source',
                'content', CASE WHEN c.candidate ->> 'id' = h.tip_id THEN h.content ELSE left(t.content, 2000) END,
                'prompt_version', CASE
                    WHEN c.candidate ->> 'id' = h.tip_id THEN h.prompt_version
                    ELSE coalesce(c.candidate ->> 'prompt_version', t.prompt_version)
                END,
                'features', c.candidate -> 'features',
                'exploit', c.exploit,
                'explore', c.explore,
                'score', c.exploit + c.explore,
                'propensity', c.propensity
            )
            ORDER BY c.place
        ), '[]')
        FROM ROWS FROM (
            jsonb_array_elements(h.candidates), unnest(h.exploit), unnest(h.explore), unnest(h.propensities)
        ) WITH ORDINALITY AS c (candidate, exploit, explore, propensity, place)
        LEFT JOIN LATERAL (
            SELECT w.content, w.prompt_version
            FROM oo_ml.tips AS w
            WHERE w.user_id = h.user_id AND w.tip_id = c.candidate ->> 'id' AND w.created_at <= h.decided_at
            ORDER BY w.generation_id DESC
            LIMIT 1
        ) AS t ON true
    ) AS candidates,
    h.reward,
    CASE
        WHEN h.reward_kind = 'default' THEN 'assumed'
        WHEN h.reward_kind = 'amend' THEN 'amended'
        WHEN h.reward_kind = 'retract' THEN 'retracted'
        WHEN h.reward IS NULL THEN 'none'
        ELSE 'received'
    END AS reward_status,
    h.rewarded_at,
    (
        SELECT count(*)
        FROM oo_ml.reward_ledger AS l
        WHERE l.user_id = h.user_id AND l.decision_id = h.decision_id AND l.corrects IS NOT NULL
    ) AS reward_changes
FROM oo_ml.feature_history AS h;
COMMENT ON VIEW analytics.decision_log IS
    'One row for each decision, with all its candidates and the reward that counts: for training and judging policies';
COMMENT ON COLUMN analytics.decision_log.user_id IS 'The user';
COMMENT ON COLUMN analytics.decision_log.decision_id IS 'The decision, as /score answered it; unique for each user';
COMMENT ON COLUMN analytics.decision_log.decided_at IS 'Time of the decision';
COMMENT ON COLUMN analytics.decision_log.policy IS 'The policy that decided';
COMMENT ON COLUMN analytics.decision_log.decision_number IS
    'Number of the decision among those of this user and policy since the last reset, from 1, if known';
COMMENT ON COLUMN analytics.decision_log.tip_id IS 'The tip that was chosen';
COMMENT ON COLUMN analytics.decision_log.content IS
    'Text of the chosen tip, as sent or as generated, if known; at most 2,000 characters';
COMMENT ON COLUMN analytics.decision_log.prompt_version IS 'Prompt version that wrote the chosen tip; null if no model did';
COMMENT ON COLUMN analytics.decision_log.prompt_probability IS
    'Probability with which the prompt version was drawn, if known';
COMMENT ON COLUMN analytics.decision_log.generation_id IS 'Generation that the chosen tip came from, if known';
COMMENT ON COLUMN analytics.decision_log.score IS 'Score of the chosen tip, as answered';
COMMENT ON COLUMN analytics.decision_log.propensity IS
    'Probability with which this tip was chosen among the candidates; the sum if it was listed more than once';
COMMENT ON COLUMN analytics.decision_log.exploring IS 'True if the tip was drawn uniformly at random';
COMMENT ON COLUMN analytics.decision_log.exploration IS
    'Probability of a draw at random when this decision was made, if known';
COMMENT ON COLUMN analytics.decision_log.alpha IS 'Width of the confidence bound; null for a policy without a bound, such as egreedy-v1';
COMMENT ON COLUMN analytics.decision_log.prior_version IS
    'Version of the prior that the decision started from; 0 before the first fit, null unless the policy is pooled';
COMMENT ON COLUMN analytics.decision_log.context IS
    'Fields of the context of the decision, as sent: hour_of_day and day_of_week for /score';
COMMENT ON COLUMN analytics.decision_log.features IS
    'Fields of the chosen tip, as sent: is_overdue, task_age_days and priority for /score';
COMMENT ON COLUMN analytics.decision_log.x IS
    'Feature vector of the chosen tip: d numbers, computed from context and features as the definition of the policy says';
COMMENT ON COLUMN analytics.decision_log.candidates IS
    'The candidates in the order of the request: a list of objects with tip_id, source, content and prompt_version (null if'
    ' unknown), features, exploit (theta.x), explore (the bonus for uncertainty), score (their sum) and propensity';
COMMENT ON COLUMN analytics.decision_log.reward IS 'The reward that counts, received or assumed; null: none';
COMMENT ON COLUMN analytics.decision_log.reward_status IS
    'none (no reward yet), received, assumed (none came in time), amended (replaced one, also an assumed one) or retracted';
COMMENT ON COLUMN analytics.decision_log.rewarded_at IS 'Time of the reward that counts';
COMMENT ON COLUMN analytics.decision_log.reward_changes IS
    'Number of times that the reward was replaced or taken back';
