-- The registry of prompt versions, and the tips that a language model wrote with them.

CREATE TABLE oo_ml.prompt_versions (
    version text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    weight float8 NOT NULL DEFAULT 0,
    published_at timestamptz NOT NULL,
    retired_at timestamptz,
    description text NOT NULL,
    system_template text NOT NULL,
    user_template text NOT NULL,
    model text COLLATE "C",
    temperature float8,
    max_tokens integer,
    response_format text COLLATE "C",
    stop text[],
    CONSTRAINT pk_prompt_versions PRIMARY KEY (version),
    CONSTRAINT ck_prompt_versions_version_length CHECK (octet_length(version) BETWEEN 1 AND 100),
    CONSTRAINT ck_prompt_versions_status_known CHECK (status IN ('active', 'retired')),
    CONSTRAINT ck_prompt_versions_retired_at_present CHECK ((status = 'retired') = (retired_at IS NOT NULL)),
    CONSTRAINT ck_prompt_versions_weight_range CHECK (weight >= 0 AND weight < 'Infinity'),
    CONSTRAINT ck_prompt_versions_description_length CHECK (octet_length(description) <= 1000),
    CONSTRAINT ck_prompt_versions_system_template_length CHECK (octet_length(system_template) BETWEEN 1 AND 65536),
    CONSTRAINT ck_prompt_versions_user_template_length CHECK (octet_length(user_template) BETWEEN 1 AND 65536),
    CONSTRAINT ck_prompt_versions_model_length CHECK (octet_length(model) BETWEEN 1 AND 200),
    CONSTRAINT ck_prompt_versions_temperature_range CHECK (temperature BETWEEN 0 AND 2),
    CONSTRAINT ck_prompt_versions_max_tokens_range CHECK (max_tokens >= 1),
    CONSTRAINT ck_prompt_versions_response_format_known
        CHECK (response_format IN ('none', 'json_object', 'json_schema', 'json_schema_bounded')),
    CONSTRAINT ck_prompt_versions_stop_texts
        CHECK (stop IS NULL OR (array_ndims(stop) = 1 AND cardinality(stop) <= 4 AND array_position(stop, NULL) IS NULL
            AND '' <> ALL (stop)) IS TRUE)
);
COMMENT ON TABLE oo_ml.prompt_versions IS
    'Registry of prompt versions. A trigger refuses every change of published texts and parameters';
COMMENT ON COLUMN oo_ml.prompt_versions.version IS 'Name of the version';
COMMENT ON COLUMN oo_ml.prompt_versions.status IS
    'active, or retired: kept for the record, refused for new generations';
COMMENT ON COLUMN oo_ml.prompt_versions.weight IS
    'Share of the calls that name no version, relative to the other versions; 0: no calls';
COMMENT ON COLUMN oo_ml.prompt_versions.published_at IS 'Time of publication';
COMMENT ON COLUMN oo_ml.prompt_versions.retired_at IS 'Time of retirement';
COMMENT ON COLUMN oo_ml.prompt_versions.description IS 'Description of the version: its purpose and style';
COMMENT ON COLUMN oo_ml.prompt_versions.system_template IS 'Jinja2 template of the system message';
COMMENT ON COLUMN oo_ml.prompt_versions.user_template IS 'Jinja2 template of the user message';
COMMENT ON COLUMN oo_ml.prompt_versions.model IS
    'Model to ask for; null, here and in the next four: as the settings of the service say';
COMMENT ON COLUMN oo_ml.prompt_versions.temperature IS 'Temperature of the model';
COMMENT ON COLUMN oo_ml.prompt_versions.max_tokens IS 'Tokens of a reply, at most';
COMMENT ON COLUMN oo_ml.prompt_versions.response_format IS 'none, json_object, json_schema or json_schema_bounded';
COMMENT ON COLUMN oo_ml.prompt_versions.stop IS 'Texts that end a reply';

CREATE FUNCTION oo_ml.refuse_change_of_prompt_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prompt version % is published: its texts and parameters never change', OLD.version
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
COMMENT ON FUNCTION oo_ml.refuse_change_of_prompt_version IS
    'Trigger function: refuses changes of a published prompt version, except of its status and weight';

CREATE TRIGGER prompt_versions_immutable
    BEFORE UPDATE OF
        version, published_at, description, system_template, user_template,
        model, temperature, max_tokens, response_format, stop
        OR DELETE
    ON oo_ml.prompt_versions
    FOR EACH ROW EXECUTE FUNCTION oo_ml.refuse_change_of_prompt_version();

CREATE SEQUENCE oo_ml.generations_order AS bigint;

CREATE TABLE oo_ml.generations (
    user_id text COLLATE "C" NOT NULL,
    generation_id uuid NOT NULL,
    position bigint NOT NULL DEFAULT nextval('oo_ml.generations_order'),
    prompt_version text COLLATE "C" NOT NULL,
    prompt_probability float8,
    created_at timestamptz NOT NULL,
    latency_ms integer NOT NULL,
    prompt_tokens integer NOT NULL,
    completion_tokens integer NOT NULL,
    requested smallint NOT NULL,
    attempts smallint NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    model text COLLATE "C",
    error text,
    finish_reason text COLLATE "C",
    repaired boolean NOT NULL DEFAULT false,
    requested_model text COLLATE "C",
    temperature float8,
    max_tokens integer,
    response_format text COLLATE "C",
    stop text[],
    CONSTRAINT pk_generations PRIMARY KEY (user_id, generation_id),
    CONSTRAINT fk_generations_prompt_versions FOREIGN KEY (prompt_version) REFERENCES oo_ml.prompt_versions (version),
    CONSTRAINT ck_generations_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_generations_latency_ms_range CHECK (latency_ms >= 0),
    CONSTRAINT ck_generations_prompt_tokens_range CHECK (prompt_tokens >= 0),
    CONSTRAINT ck_generations_completion_tokens_range CHECK (completion_tokens >= 0),
    CONSTRAINT ck_generations_requested_range CHECK (requested >= 1),
    CONSTRAINT ck_generations_attempts_range CHECK (attempts >= 0),
    CONSTRAINT ck_generations_outcome_length CHECK (octet_length(outcome) BETWEEN 1 AND 100),
    CONSTRAINT ck_generations_model_length CHECK (octet_length(model) BETWEEN 1 AND 200),
    CONSTRAINT ck_generations_error_present CHECK ((outcome = 'ok') = (error IS NULL)),
    CONSTRAINT ck_generations_error_length CHECK (octet_length(error) <= 8192),
    CONSTRAINT ck_generations_prompt_probability_range CHECK (prompt_probability > 0 AND prompt_probability <= 1),
    CONSTRAINT ck_generations_finish_reason_length CHECK (octet_length(finish_reason) BETWEEN 1 AND 200),
    CONSTRAINT ck_generations_requested_model_length CHECK (octet_length(requested_model) BETWEEN 1 AND 200),
    CONSTRAINT ck_generations_temperature_range CHECK (temperature BETWEEN 0 AND 2),
    CONSTRAINT ck_generations_max_tokens_range CHECK (max_tokens >= 1),
    CONSTRAINT ck_generations_response_format_known
        CHECK (response_format IN ('none', 'json_object', 'json_schema', 'json_schema_bounded')),
    CONSTRAINT ck_generations_stop_texts
        CHECK (stop IS NULL OR (array_ndims(stop) = 1 AND cardinality(stop) <= 4 AND array_position(stop, NULL) IS NULL
            AND '' <> ALL (stop)) IS TRUE)
);
COMMENT ON TABLE oo_ml.generations IS
    'One row for each call of /generate that reached the model, failed calls included';
COMMENT ON COLUMN oo_ml.generations.user_id IS 'The user that tips were requested for';
COMMENT ON COLUMN oo_ml.generations.generation_id IS 'UUIDv7 of the generation';
COMMENT ON COLUMN oo_ml.generations.position IS 'Order in which generations were written';
COMMENT ON COLUMN oo_ml.generations.prompt_version IS 'The prompt version used';
COMMENT ON COLUMN oo_ml.generations.prompt_probability IS
    'Probability with which the version was drawn; 1 if the client named it';
COMMENT ON COLUMN oo_ml.generations.created_at IS 'Time of the call';
COMMENT ON COLUMN oo_ml.generations.latency_ms IS 'Time spent waiting for the gateway, over all attempts';
COMMENT ON COLUMN oo_ml.generations.prompt_tokens IS 'Sum over the attempts';
COMMENT ON COLUMN oo_ml.generations.completion_tokens IS 'Sum over the attempts';
COMMENT ON COLUMN oo_ml.generations.requested IS 'Number of tips requested';
COMMENT ON COLUMN oo_ml.generations.attempts IS 'Number of requests to the model';
COMMENT ON COLUMN oo_ml.generations.outcome IS 'ok, or the code of the error in the answer';
COMMENT ON COLUMN oo_ml.generations.model IS 'The model that answered, as the gateway names it';
COMMENT ON COLUMN oo_ml.generations.error IS 'The error message in the answer';
COMMENT ON COLUMN oo_ml.generations.finish_reason IS
    'The end of the last reply: stop, length, refusal, content_filter, ...';
COMMENT ON COLUMN oo_ml.generations.repaired IS 'True if the tips are from a reply that was not quite JSON';
COMMENT ON COLUMN oo_ml.generations.requested_model IS 'The model that was asked for';
COMMENT ON COLUMN oo_ml.generations.temperature IS 'Temperature of the model';
COMMENT ON COLUMN oo_ml.generations.max_tokens IS 'Tokens of a reply, at most';
COMMENT ON COLUMN oo_ml.generations.response_format IS 'none, json_object, json_schema or json_schema_bounded';
COMMENT ON COLUMN oo_ml.generations.stop IS 'Texts that end a reply';

CREATE INDEX ix_generations_position
    ON oo_ml.generations USING brin (position) WITH (pages_per_range = 64, autosummarize = on);

CREATE TABLE oo_ml.tips (
    user_id text COLLATE "C" NOT NULL,
    tip_id text COLLATE "C" NOT NULL,
    generation_id uuid NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    prompt_probability float8,
    created_at timestamptz NOT NULL,
    place smallint NOT NULL,
    content text NOT NULL,
    rationale text,
    CONSTRAINT pk_tips PRIMARY KEY (user_id, tip_id, generation_id),
    CONSTRAINT fk_tips_generations
        FOREIGN KEY (user_id, generation_id) REFERENCES oo_ml.generations (user_id, generation_id),
    CONSTRAINT ck_tips_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_tips_tip_id_length CHECK (octet_length(tip_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_tips_prompt_version_length CHECK (octet_length(prompt_version) BETWEEN 1 AND 100),
    CONSTRAINT ck_tips_place_range CHECK (place >= 0),
    CONSTRAINT ck_tips_content_length CHECK (octet_length(content) BETWEEN 1 AND 16384),
    CONSTRAINT ck_tips_rationale_length CHECK (octet_length(rationale) <= 16384),
    CONSTRAINT ck_tips_prompt_probability_range CHECK (prompt_probability > 0 AND prompt_probability <= 1)
);
COMMENT ON TABLE oo_ml.tips IS 'One row for each tip that a model wrote. The latest row of a tip_id is the one in use';
COMMENT ON COLUMN oo_ml.tips.user_id IS 'The user that the tip was written for';
COMMENT ON COLUMN oo_ml.tips.tip_id IS 'Id of the tip; a later generation may use the same id';
COMMENT ON COLUMN oo_ml.tips.generation_id IS 'The generation that wrote the tip';
COMMENT ON COLUMN oo_ml.tips.prompt_version IS 'The prompt version that wrote the tip';
COMMENT ON COLUMN oo_ml.tips.prompt_probability IS 'prompt_probability of the generation';
COMMENT ON COLUMN oo_ml.tips.created_at IS 'Time of the generation';
COMMENT ON COLUMN oo_ml.tips.place IS 'Index of the tip in the model''s reply, from 0';
COMMENT ON COLUMN oo_ml.tips.content IS 'Text of the tip';
COMMENT ON COLUMN oo_ml.tips.rationale IS 'The model''s reason for the tip';

CREATE TABLE oo_ml.prompt_assignments (
    user_id text COLLATE "C" NOT NULL,
    prompt_version text COLLATE "C" NOT NULL,
    probability float8 NOT NULL,
    assigned_at timestamptz NOT NULL,
    CONSTRAINT pk_prompt_assignments PRIMARY KEY (user_id),
    CONSTRAINT fk_prompt_assignments_prompt_versions
        FOREIGN KEY (prompt_version) REFERENCES oo_ml.prompt_versions (version),
    CONSTRAINT ck_prompt_assignments_user_id_length CHECK (octet_length(user_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_prompt_assignments_probability_range CHECK (probability > 0 AND probability <= 1)
);
COMMENT ON TABLE oo_ml.prompt_assignments IS
    'The prompt version that a user keeps if OO_ML_PROMPT_STICKY is on. One row for each user';
COMMENT ON COLUMN oo_ml.prompt_assignments.user_id IS 'The user';
COMMENT ON COLUMN oo_ml.prompt_assignments.prompt_version IS
    'The version that the user gets while it is active and has a weight';
COMMENT ON COLUMN oo_ml.prompt_assignments.probability IS 'Probability with which the version was drawn';
COMMENT ON COLUMN oo_ml.prompt_assignments.assigned_at IS 'Time of the draw';

CREATE TABLE oo_ml.model_prices (
    model text COLLATE "C" NOT NULL,
    since date NOT NULL,
    prompt_price numeric NOT NULL,
    completion_price numeric NOT NULL,
    CONSTRAINT pk_model_prices PRIMARY KEY (model, since),
    CONSTRAINT ck_model_prices_model_length CHECK (octet_length(model) BETWEEN 1 AND 200),
    CONSTRAINT ck_model_prices_prompt_price_range CHECK (prompt_price >= 0 AND prompt_price < 1e9),
    CONSTRAINT ck_model_prices_completion_price_range CHECK (completion_price >= 0 AND completion_price < 1e9)
);
COMMENT ON TABLE oo_ml.model_prices IS
    'Prices of models for the report prompt_costs, all in one currency. Optional: a model without a price has no cost';
COMMENT ON COLUMN oo_ml.model_prices.model IS 'The model, as generations.model names it';
COMMENT ON COLUMN oo_ml.model_prices.since IS 'First day of the price, UTC; it holds until the next one';
COMMENT ON COLUMN oo_ml.model_prices.prompt_price IS 'Price of a million tokens of prompts';
COMMENT ON COLUMN oo_ml.model_prices.completion_price IS 'Price of a million tokens of replies';
