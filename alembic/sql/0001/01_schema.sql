-- ADR 13, ADR 16
-- oO ML's schema, from top to bottom. Three schemas, so that the tables can live in another application's database:
--
--   oo_ml      the tables below, and alembic_version. The service reads and writes them; no other role should write.
--   rollup     views between tables and reports: the part of each row in the sums by day. May change in any release.
--   analytics  the contract with analysts: views and functions. A release may add to it; it takes nothing away.
--
-- Users' tables. user_id comes first in every primary key and unique index:
--
--   policy_state        the state: A, b and counters of each user and policy. The only row that is locked
--   feature_history     one row for each decision, with everything that explains it. Partitioned by month
--   reward_ledger       one entry for each change of A and b; the fold of a user's entries is the state
--   generations         one row for each call of /generate that reached the language model
--   tips                the tips that the model wrote in these calls
--   prompt_assignments  the prompt version that a user keeps
--
-- Tables without users' data:
--
--   prompt_versions     the registry of prompt versions; a published text never changes
--   upkeep              the progress of each task of upkeep
--   counted             the position up to which the sums by day include each source
--   daily_reactions, daily_learning, daily_delays, daily_exploration    sums by day of decisions and their rewards
--   daily_rewards                                                       rewards of each policy by day
--   daily_user_groups                                                   the same, by group of users
--   daily_first_decisions                                               the first 20 of users, by version of the prior
--   daily_costs, daily_latencies                                        sums by day of calls of the language model
--   api_keys            the SHA-256 and the scopes of each API key
--   audit_log           administrative actions
--
-- Names of ids and versions are text COLLATE "C": they are compared as bytes, so rows are locked in the same order on
-- every server. Every numeric range is a CHECK. Every name is qualified, so no search_path matters.

COMMENT ON SCHEMA oo_ml IS 'Tables of oO ML: states, decisions, ledger, prompt versions, sums by day';

-- Schemas that an administrator has made for the migrating role are used as they are.
DO $$
BEGIN
    IF to_regnamespace('rollup') IS NULL THEN
        CREATE SCHEMA rollup;
    END IF;
    IF to_regnamespace('analytics') IS NULL THEN
        CREATE SCHEMA analytics;
    END IF;
END
$$;
