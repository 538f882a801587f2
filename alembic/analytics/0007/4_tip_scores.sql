CREATE VIEW analytics.tip_scores AS
SELECT
    user_id,
    decision_id,
    tip_id,
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
    rewarded_at
FROM feature_history;
COMMENT ON VIEW analytics.tip_scores IS 'One row a decision, with the reward that counts now';
COMMENT ON COLUMN analytics.tip_scores.user_id IS 'The person';
COMMENT ON COLUMN analytics.tip_scores.decision_id IS 'The decision, as /score answered it';
COMMENT ON COLUMN analytics.tip_scores.tip_id IS 'The tip that was chosen';
COMMENT ON COLUMN analytics.tip_scores.policy IS 'The policy that decided: linucb-v1 or egreedy-v1';
COMMENT ON COLUMN analytics.tip_scores.prompt_version IS 'Prompt version that wrote the tip; null if no model did';
COMMENT ON COLUMN analytics.tip_scores.generation_id IS 'Generation that the tip came from, if known';
COMMENT ON COLUMN analytics.tip_scores.prompt_probability IS
    'Probability with which the prompt version was picked, if known';
COMMENT ON COLUMN analytics.tip_scores.score IS 'Score of the tip, as answered';
COMMENT ON COLUMN analytics.tip_scores.propensity IS 'Probability with which this tip was chosen among the candidates';
COMMENT ON COLUMN analytics.tip_scores.exploring IS 'Whether it was drawn at random';
COMMENT ON COLUMN analytics.tip_scores.candidates IS 'How many candidates there were, if known';
COMMENT ON COLUMN analytics.tip_scores.decision_number IS
    'Which decision of this person''s and policy''s it is since the last reset, from 1, if known';
COMMENT ON COLUMN analytics.tip_scores.served_at IS 'When it was decided';
COMMENT ON COLUMN analytics.tip_scores.reward IS 'The reward that counts now, assumed ones too; null: none';
COMMENT ON COLUMN analytics.tip_scores.reaction IS
    'done, helpful, snooze, not_helpful, dismiss or other; none: nobody reacted so far, a reward was assumed or taken back';
COMMENT ON COLUMN analytics.tip_scores.rewarded_at IS 'When the reward that counts now came';
