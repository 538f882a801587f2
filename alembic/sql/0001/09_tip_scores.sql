-- Decisions for analysts.

CREATE VIEW analytics.tip_scores AS
SELECT
    user_id,
    decision_id,
    tip_id,
    content,
    policy,
    prompt_version,
    generation_id,
    prompt_probability,
    score,
    propensity,
    exploring,
    array_length(propensities, 1) AS candidates,
    pull AS decision_number,
    decided_at AS served_at,
    reward,
    CASE WHEN reward_kind = 'default' THEN 'none' ELSE rollup.reaction(reward, reward_kind) END AS reaction,
    rewarded_at,
    rollup.unsupported(propensities) = 0 AS supported
FROM oo_ml.feature_history;
COMMENT ON VIEW analytics.tip_scores IS 'One row for each decision, with the reward that counts';
COMMENT ON COLUMN analytics.tip_scores.user_id IS 'The user';
COMMENT ON COLUMN analytics.tip_scores.decision_id IS 'The decision, as /score answered it';
COMMENT ON COLUMN analytics.tip_scores.tip_id IS 'The tip that was chosen';
COMMENT ON COLUMN analytics.tip_scores.content IS
    'Text of the tip, as sent or as generated, if known; at most 2,000 characters';
COMMENT ON COLUMN analytics.tip_scores.policy IS 'The policy that decided';
COMMENT ON COLUMN analytics.tip_scores.prompt_version IS 'Prompt version that wrote the tip; null if no model did';
COMMENT ON COLUMN analytics.tip_scores.generation_id IS 'Generation that the tip came from, if known';
COMMENT ON COLUMN analytics.tip_scores.prompt_probability IS
    'Probability with which the prompt version was drawn, if known';
COMMENT ON COLUMN analytics.tip_scores.score IS 'Score of the tip, as answered';
COMMENT ON COLUMN analytics.tip_scores.propensity IS 'Probability with which this tip was chosen among the candidates';
COMMENT ON COLUMN analytics.tip_scores.exploring IS 'True if the tip was drawn at random';
COMMENT ON COLUMN analytics.tip_scores.candidates IS 'Number of candidates, if known';
COMMENT ON COLUMN analytics.tip_scores.decision_number IS
    'Number of the decision among those of this user and policy since the last reset, from 1, if known';
COMMENT ON COLUMN analytics.tip_scores.served_at IS 'Time of the decision';
COMMENT ON COLUMN analytics.tip_scores.reward IS 'The reward that counts, received or assumed; null: none';
COMMENT ON COLUMN analytics.tip_scores.reaction IS
    'done, helpful, snooze, not_helpful, dismiss or other; none: no reaction yet, an assumed reward, or a retraction';
COMMENT ON COLUMN analytics.tip_scores.rewarded_at IS 'Time of the reward that counts';
COMMENT ON COLUMN analytics.tip_scores.supported IS
    'True if every candidate had a chance (propensity 1e-12 or more): 1 / propensity then weighs up what was not shown';
