"""All settings of the service, in one frozen object read from the environment.

Names have the prefix OO_ML_, except for the four that the HTTP contract names.
Durations are in seconds and sizes in bytes unless the name says otherwise.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Self

import platformdirs
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from oo_ml.environment import FILE, PREFIX, read_secret, refuse_unknown
from oo_ml.errors import ConfigurationError
from oo_ml.setting_choices import Auth, LogFormat, LogLevel, ResponseFormat
from oo_ml.setting_formats import HeaderValue, HostNames, HttpAddress, LongSecret, ModelName, Origins, Rate, SchemaName

# More than any retention, and small enough for PostgreSQL and Python to subtract it from now.
_YEARS = 100
_DAY = 86_400.0
# The value of TIP_PROMPT_VERSION that draws versions by their rewards; no version can have this name.
AUTO: Final = "auto"


def _usual_data_dir() -> Path:
    """Return the user's directory for data; it begins with ~ if the user has no known home, and can't be used then."""
    try:
        return platformdirs.user_data_path("oo-ml", appauthor=False)
    except RuntimeError:
        return Path("~/.local/share/oo-ml")


class Settings(BaseSettings):
    """The settings of one process. An invalid value stops the process at its start."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    # Policies
    alpha: float = Field(1.0, ge=0, le=1e6, description="Width of the LinUCB confidence bound")
    epsilon: float = Field(
        0.1, ge=0, le=1, description="Probability that an epsilon-greedy decision is drawn at random"
    )
    exploration: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a LinUCB decision is drawn at random; allows evaluating other policies",
    )
    reward_wait: Annotated[float, Field(gt=0, le=_YEARS * 366 * 86_400)] | None = Field(
        None, description="Time after which a decision without a reward gets OO_ML_DEFAULT_REWARD; empty: never"
    )
    default_reward: float = Field(
        0.0, ge=-1, le=1, description="Reward of a decision that had none after OO_ML_REWARD_WAIT"
    )

    # Prompt versions
    tip_prompt_version: str = Field(
        "",
        validation_alias="TIP_PROMPT_VERSION",
        description="Version for requests that name none; comma list: one at random; auto: drawn by rewards",
    )
    default_prompt_version: str = Field(
        "v1",
        validation_alias="DEFAULT_PROMPT_VERSION",
        description="Version used when TIP_PROMPT_VERSION is empty and no version has a weight",
    )
    prompt_sticky: bool = Field(
        default=False,
        description="Keep for each user the prompt version that was first drawn by the registry's weights",
    )

    # Language model gateway
    litellm_url: HttpAddress = Field(
        "http://localhost:4000",
        validation_alias="LITELLM_URL",
        description="Base address of the chat-completions gateway",
    )
    litellm_master_key: HeaderValue = Field(
        SecretStr("sk-oo-dev"), validation_alias="LITELLM_MASTER_KEY", description="Bearer key for the gateway"
    )
    llm_model: ModelName = Field(
        "tip-generator",
        description="Model that the gateway is asked for, unless the prompt version names one",
    )
    llm_temperature: float = Field(
        0.7, ge=0, le=2, description="Temperature of the model, unless the prompt version has one"
    )
    llm_response_format: ResponseFormat = Field(
        ResponseFormat.NONE,
        description="What the gateway is asked to enforce, unless the prompt version says. json_object: any object;"
        " json_schema: an object with tips; json_schema_bounded: also their number and lengths, which not all providers"
        " accept",
    )
    llm_timeout: PositiveFloat = Field(30.0, description="Longest wait for one reply of the gateway")
    llm_connect_timeout: PositiveFloat = Field(3.0, description="Longest wait for a connection to the gateway")
    llm_max_connections: PositiveInt = Field(50, description="Concurrent calls to the gateway, at most")
    llm_max_reply_bytes: PositiveInt = Field(1_048_576, description="Largest reply read from the gateway")

    # Database
    database_url: SecretStr | None = Field(
        None,
        description="As libpq takes it, postgresql://...; empty: a private PostgreSQL is started in OO_ML_DATA_DIR",
    )
    analytics_schema: SchemaName = Field(
        "analytics",
        description="PostgreSQL schema of the reports; change it if another application has a schema analytics",
    )
    rollup_schema: SchemaName = Field(
        "rollup", description="PostgreSQL schema of the views behind the reports; change it if rollup is taken"
    )
    data_dir: Path = Field(
        default_factory=_usual_data_dir,
        description="Directory of the private PostgreSQL's data",
    )
    postgres_bin_dir: Path | None = Field(
        None, description="Directory of initdb and postgres for the private PostgreSQL; empty: the wheel's"
    )
    postgres_start_timeout: PositiveFloat = Field(
        60.0, description="Longest wait for the private PostgreSQL to start or stop"
    )
    lanes: int = Field(
        2, gt=0, le=1000, description="Lanes, which decide and learn; each is a thread with one connection"
    )
    lane_batch: int = Field(
        64, gt=0, le=10_000, description="Decisions or rewards in one transaction of a lane, at most"
    )
    lane_queue: PositiveInt = Field(256, description="Calls that can wait in each lane; further calls are answered 503")
    lane_lock_timeout: PositiveFloat = Field(
        0.1, description="Longest wait of a lane for a row lock; then the user's calls wait, up to OO_ML_LOCK_TIMEOUT"
    )
    lane_one_user: bool = Field(
        default=False,
        description="Put only one user's calls into a transaction, for a database that is sharded by user_id",
    )
    database_workers: PositiveInt = Field(
        2, description="Threads, each with one connection, for batch calls, prompts and generations"
    )
    database_readers: PositiveInt = Field(
        4, description="Threads, each with one connection, for calls that only read, such as reports"
    )
    database_queue: PositiveInt = Field(
        256, description="Transactions that can wait for these threads; further calls are answered 503"
    )
    database_connect_timeout: PositiveInt = Field(2, description="Longest wait for a connection to PostgreSQL")
    database_idle_check: float = Field(
        10.0,
        ge=0,
        description="Time after which an idle connection is checked at its next use, and replaced if it is dead",
    )
    database_prepare_threshold: int = Field(
        5,
        ge=-1,
        description="Runs of a statement before it is prepared; -1: never, and sessions are not set (for PgBouncer)",
    )
    statement_timeout: PositiveFloat = Field(1.5, description="Longest run of one statement")
    lock_timeout: PositiveFloat = Field(1.0, description="Longest wait for a row lock")
    long_workers: int = Field(
        2, gt=0, le=1000, description="Threads, each with one connection, for verify, export, erase and upkeep"
    )
    long_timeout: float = Field(
        60.0, gt=0, le=_DAY, description="Request and statement timeout for verify, export, erase and upkeep"
    )
    upkeep_interval: float = Field(
        60.0,
        ge=0,
        le=_DAY,
        description="Time between two runs of upkeep by the service; 0: never, run `oo-ml upkeep` instead",
    )
    history_retention: Annotated[int, Field(gt=0, le=_YEARS * 12)] | None = Field(
        None,
        description="Months of feature_history to keep before the current one; older are detached; empty: keep all",
    )
    prior_fit_timeout: PositiveFloat = Field(600.0, description="Longest computation of a prior; it takes some seconds")
    prior_retention_days: int = Field(
        400,
        gt=0,
        le=_YEARS * 366,
        description="Days for which a version of a prior is kept after a newer one has replaced it",
    )
    migration_wait: PositiveFloat = Field(600.0, description="Longest wait for another process that is migrating")
    migration_lock_timeout: PositiveFloat = Field(5.0, description="Longest wait of a migration for a table lock")

    # Access
    auth: Auth = Field(
        Auth.AUTO,
        description="Calls that need an API key: required: all; off: none; auto: all, unless served on loopback",
    )
    admin_key: LongSecret = Field(
        None, description="A key with all scopes that is not in the database, for the first start of a pipeline"
    )
    key_max_age: float = Field(
        5.0, gt=0, le=3600, description="Time for which API keys are kept in memory; a revocation works after it"
    )
    policy_max_age: float = Field(
        5.0, gt=0, le=3600, description="Time for which policies are kept in memory; a retirement works after it"
    )
    rate_limit: Rate | None = Field(
        None,
        description="Calls that each key may make in each process, such as 100/second or 5000/minute; further calls are"
        " answered 429; empty: any number",
    )
    session_key: LongSecret = Field(
        None,
        description="Secret that signs the dashboard's sessions, the same for all services behind one address; empty:"
        " drawn at each start",
    )
    allowed_hosts: HostNames = Field(
        (),
        description="Names that the Host header may have, a comma list; *: any; empty: loopback names if `oo-ml serve`"
        " listens on loopback, else any",
    )
    cors_origins: Origins = Field(
        (), description="Origins of other sites whose pages may call, a comma list; empty: none"
    )

    # HTTP
    keep_alive: PositiveInt = Field(
        75, description="Time after which an idle connection is closed; longer than that of a balancer"
    )
    max_connections: PositiveInt = Field(
        4096, description="Open connections of each process; further ones are answered 503"
    )
    max_head_bytes: PositiveInt = Field(65_536, description="Largest head of a request that arrives in pieces")
    head_timeout: PositiveFloat = Field(20.0, description="Longest time for the head of a request to arrive")
    body_timeout: PositiveFloat = Field(60.0, description="Longest time for the body of a request to arrive")
    send_timeout: PositiveFloat = Field(60.0, description="Longest time for which a client takes nothing of an answer")
    drain: float = Field(
        0.0, ge=0, le=3600, description="Time after SIGTERM in which calls are still accepted and /readyz answers 503"
    )
    processes: int = Field(
        1,
        gt=0,
        le=1000,
        description="Processes of `oo-ml serve`, each with its own lanes and threads; each can use one core",
    )
    process_timeout: PositiveInt = Field(
        30,
        description="Time after which one of several processes is replaced if it does not answer its supervisor; ten"
        " times as long while it starts",
    )
    request_timeout: PositiveFloat = Field(
        1.9, description="Time after which a call that waits for PostgreSQL is answered 503"
    )
    max_body_bytes: PositiveInt = Field(2_097_152, description="Largest request body")
    shutdown_timeout: PositiveInt = Field(10, description="Time for accepted calls to finish when the service stops")

    metrics_max_age: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Time for which /metrics keeps numbers that are read: of upkeep, queues and connections",
    )

    log_level: LogLevel = Field(
        LogLevel.INFO, description="debug, info, warning or error; if it is not set, most commands log only errors"
    )
    log_format: LogFormat = Field(LogFormat.TEXT, description="text, or json: one JSON object a line")
    access_log: bool = Field(
        default=False, description="Log a line for each request, at level info: route, status, time, request id, key id"
    )

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - checked by the fields
        """Read the environment; `values` take precedence.

        Raises:
            ConfigurationError: settings are invalid or unknown. It names each with the reason; a value may be a secret.
        """
        secrets = {name: self.variable(name) for name in self.secrets()}
        files = {f"{variable}{FILE}" for variable in secrets.values()}
        refuse_unknown(os.environ, files.union(map(self.variable, type(self).model_fields)))
        read: dict[str, Any] = {name: read_secret(os.environ, variable) for name, variable in secrets.items()}
        try:
            super().__init__(**{name: secret for name, secret in read.items() if secret is not None}, **values)
        except ValidationError as error:
            problems = [
                ": ".join([*map(self._describe, problem["loc"]), problem["msg"].removeprefix("Value error, ")])
                for problem in error.errors(include_input=False)
            ]
            raise ConfigurationError("\n".join(problems)) from None

    @classmethod
    def secrets(cls) -> list[str]:
        """Return the names of the settings that are secrets, which a file may contain: OO_ML_DATABASE_URL_FILE."""
        secret = (SecretStr, SecretStr | None)
        return [name for name, field in cls.model_fields.items() if field.annotation in secret]

    @classmethod
    def _describe(cls, location: str | int) -> str:
        # Pydantic names a field that has an alias by its alias, and any other field by its name.
        return cls.variable(str(location)) if location in cls.model_fields else str(location)

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a setting."""
        alias = cls.model_fields[name].validation_alias
        return alias if isinstance(alias, str) else f"{cls.model_config['env_prefix']}{name}".upper()

    def show(self, name: str) -> str:
        """Return a setting as text; a secret is shown as asterisks."""
        value = getattr(self, name)
        if isinstance(value, tuple):
            return ",".join(value)
        return "" if value is None else str(value)

    @field_validator("*", mode="before")
    @classmethod
    def _strip(cls, configured: object) -> object:
        return configured.strip() if isinstance(configured, str) else configured

    @field_validator("tip_prompt_version")
    @classmethod
    def _auto_stands_alone(cls, configured: str) -> str:
        names = {entry.strip() for entry in configured.split(",")} - {""}
        if AUTO in names and len(names) > 1:
            raise ValueError(f"{AUTO} means every version in use, so the list can hold no other name")
        return configured

    @model_validator(mode="after")
    def _schemas_differ(self) -> Self:
        if len({"oo_ml", "public", "information_schema", self.analytics_schema, self.rollup_schema}) < 5:  # noqa: PLR2004
            raise ValueError("OO_ML_ANALYTICS_SCHEMA and OO_ML_ROLLUP_SCHEMA must each name a schema of its own")
        return self

    @model_validator(mode="after")
    def _timeouts_nest(self) -> Self:
        nested = [self.lane_lock_timeout, self.lock_timeout, self.statement_timeout, self.request_timeout]
        if nested != sorted(nested):
            raise ValueError(
                "OO_ML_LANE_LOCK_TIMEOUT <= OO_ML_LOCK_TIMEOUT <= OO_ML_STATEMENT_TIMEOUT <= OO_ML_REQUEST_TIMEOUT"
                " must hold"
            )
        return self
