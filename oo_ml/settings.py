"""All settings of the service, in one frozen object read from the environment.

Names have the prefix OO_ML_, except for the four that the HTTP contract names.
Durations are in seconds and sizes in bytes unless the name says otherwise.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from oo_ml.errors import ConfigurationError

# More than any retention, and small enough for PostgreSQL and Python to subtract it from now.
_YEARS = 100
_DAY = 86_400.0
# Names that SQL need not quote.
_SCHEMA_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
# The value of TIP_PROMPT_VERSION that draws versions by their rewards; no version can have this name.
AUTO: Final = "auto"


class ResponseFormat(StrEnum):
    """Request to the gateway about the shape of a reply."""

    NONE = "none"
    JSON_SCHEMA = "json_schema"


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("oo-ml", appauthor=False)


class Settings(BaseSettings):
    """The settings of one process. An invalid value stops the process at its start."""

    model_config = SettingsConfigDict(
        env_prefix="OO_ML_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    # Policies
    alpha: Annotated[float, Field(ge=0, le=1e6, description="Width of the LinUCB confidence bound")] = 1.0
    epsilon: Annotated[
        float, Field(ge=0, le=1, description="Probability that an epsilon-greedy decision is drawn at random")
    ] = 0.1

    exploration: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Probability that a LinUCB decision is drawn at random; allows evaluating other policies",
        ),
    ] = 0.0
    reward_wait: Annotated[
        Annotated[float, Field(gt=0, le=_YEARS * 366 * 86_400)] | None,
        Field(description="Time after which a decision without a reward gets OO_ML_DEFAULT_REWARD; empty: never"),
    ] = None
    default_reward: Annotated[
        float, Field(ge=-1, le=1, description="Reward of a decision that had none after OO_ML_REWARD_WAIT")
    ] = 0.0

    # Prompt versions
    tip_prompt_version: Annotated[
        str,
        Field(
            validation_alias="TIP_PROMPT_VERSION",
            description="Version for requests that name none; comma list: one at random; auto: drawn by rewards",
        ),
    ] = ""
    default_prompt_version: Annotated[
        str,
        Field(
            validation_alias="DEFAULT_PROMPT_VERSION",
            description="Version used when TIP_PROMPT_VERSION is empty and no version has a weight",
        ),
    ] = "v1"
    prompt_sticky: Annotated[
        bool, Field(description="Keep for each user the prompt version that was first drawn by the registry's weights")
    ] = False

    # Language model gateway
    litellm_url: Annotated[
        str, Field(validation_alias="LITELLM_URL", description="Base address of the chat-completions gateway")
    ] = "http://localhost:4000"
    litellm_master_key: Annotated[
        SecretStr, Field(validation_alias="LITELLM_MASTER_KEY", description="Bearer key for the gateway")
    ] = SecretStr("sk-oo-dev")
    llm_response_format: Annotated[
        ResponseFormat, Field(description="json_schema asks the gateway to enforce the shape of the reply")
    ] = ResponseFormat.NONE
    llm_timeout: Annotated[PositiveFloat, Field(description="Longest wait for one reply of the gateway")] = 30.0
    llm_connect_timeout: Annotated[PositiveFloat, Field(description="Longest wait for a connection to the gateway")] = (
        3.0
    )
    llm_max_connections: Annotated[PositiveInt, Field(description="Concurrent calls to the gateway, at most")] = 50
    llm_max_reply_bytes: Annotated[PositiveInt, Field(description="Largest reply read from the gateway")] = 1_048_576

    # Database
    database_url: Annotated[
        SecretStr | None,
        Field(description="postgresql://...; empty: a private PostgreSQL is started in OO_ML_DATA_DIR"),
    ] = None
    analytics_schema: Annotated[
        str,
        Field(description="PostgreSQL schema of the reports; change it if another application has a schema analytics"),
    ] = "analytics"
    rollup_schema: Annotated[
        str, Field(description="PostgreSQL schema of the views behind the reports; change it if rollup is taken")
    ] = "rollup"
    data_dir: Annotated[Path, Field(description="Directory of the private PostgreSQL's data")] = Field(
        default_factory=_default_data_dir
    )
    postgres_bin_dir: Annotated[
        Path | None,
        Field(description="Directory of initdb and postgres for the private PostgreSQL; empty: the wheel's"),
    ] = None
    postgres_start_timeout: Annotated[
        PositiveFloat, Field(description="Longest wait for the private PostgreSQL to start or stop")
    ] = 60.0
    lanes: Annotated[
        int, Field(gt=0, le=1000, description="Lanes, which decide and learn; each is a thread with one connection")
    ] = 2
    lane_batch: Annotated[
        int, Field(gt=0, le=10_000, description="Decisions or rewards in one transaction of a lane, at most")
    ] = 64
    lane_queue: Annotated[
        PositiveInt, Field(description="Calls that can wait in each lane; further calls are answered 503")
    ] = 256
    lane_lock_timeout: Annotated[
        PositiveFloat,
        Field(
            description="Longest wait of a lane for a row lock; then the user's calls wait, up to OO_ML_LOCK_TIMEOUT"
        ),
    ] = 0.1
    lane_one_user: Annotated[
        bool,
        Field(description="Put only one user's calls into a transaction, for a database that is sharded by user_id"),
    ] = False
    database_workers: Annotated[
        PositiveInt, Field(description="Threads, each with one connection, for batch calls, prompts and generations")
    ] = 2
    database_readers: Annotated[
        PositiveInt, Field(description="Threads, each with one connection, for calls that only read, such as reports")
    ] = 4
    database_queue: Annotated[
        PositiveInt, Field(description="Transactions that can wait for these threads; further calls are answered 503")
    ] = 256
    database_connect_timeout: Annotated[
        PositiveInt, Field(description="Longest wait for a connection to PostgreSQL")
    ] = 2
    database_prepare_threshold: Annotated[
        int, Field(ge=-1, description="Runs of a statement before it is prepared; -1: never (for PgBouncer)")
    ] = 5
    statement_timeout: Annotated[PositiveFloat, Field(description="Longest run of one statement")] = 1.5
    lock_timeout: Annotated[PositiveFloat, Field(description="Longest wait for a row lock")] = 1.0
    long_workers: Annotated[
        int, Field(gt=0, le=1000, description="Threads, each with one connection, for verify, export, erase and upkeep")
    ] = 2
    long_timeout: Annotated[
        float,
        Field(gt=0, le=_DAY, description="Request and statement timeout for verify, export, erase and upkeep"),
    ] = 60.0
    upkeep_interval: Annotated[
        float,
        Field(
            ge=0,
            le=_DAY,
            description="Time between two runs of upkeep by the service; 0: never, run `oo-ml upkeep` instead",
        ),
    ] = 60.0
    history_retention: Annotated[
        Annotated[int, Field(gt=0, le=_YEARS * 12)] | None,
        Field(
            description="Months of feature_history to keep before the current one; older are detached; empty: keep all"
        ),
    ] = None
    migration_wait: Annotated[
        PositiveFloat, Field(description="Longest wait for another process that is migrating")
    ] = 600.0
    migration_lock_timeout: Annotated[
        PositiveFloat, Field(description="Longest wait of a migration for a table lock")
    ] = 5.0

    # HTTP
    processes: Annotated[
        int,
        Field(
            gt=0,
            le=1000,
            description="Processes of `oo-ml serve`, each with its own lanes and threads; each can use one core",
        ),
    ] = 1
    request_timeout: Annotated[
        PositiveFloat, Field(description="Time after which a call that waits for PostgreSQL is answered 503")
    ] = 1.9
    max_body_bytes: Annotated[PositiveInt, Field(description="Largest request body")] = 2_097_152
    shutdown_timeout: Annotated[
        PositiveInt, Field(description="Time for accepted calls to finish when the service stops")
    ] = 10

    log_level: Annotated[
        LogLevel,
        Field(description="debug, info, warning or error; if it is not set, most commands log only errors"),
    ] = LogLevel.INFO

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - checked by the fields
        """Read the environment; `values` take precedence.

        Raises:
            ConfigurationError: settings are invalid. It names each with the reason; a value may be a secret.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [
                ": ".join([*map(self._describe, problem["loc"]), problem["msg"].removeprefix("Value error, ")])
                for problem in error.errors(include_input=False)
            ]
            raise ConfigurationError("\n".join(problems)) from None

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
        return "" if value is None else str(value)

    @field_validator("tip_prompt_version")
    @classmethod
    def _auto_stands_alone(cls, configured: str) -> str:
        names = {entry.strip() for entry in configured.split(",")} - {""}
        if AUTO in names and len(names) > 1:
            raise ValueError(f"{AUTO} means every version in use, so the list can hold no other name")
        return configured

    @field_validator("analytics_schema", "rollup_schema")
    @classmethod
    def _is_schema_name(cls, name: str) -> str:
        if not _SCHEMA_NAME.fullmatch(name):
            raise ValueError("must be 1 to 63 lower-case letters, digits and _, and not begin with a digit or pg_")
        return name

    @field_validator("litellm_url")
    @classmethod
    def _is_http_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be an address like http://localhost:4000")
        return url

    @field_validator("litellm_master_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr) -> SecretStr:
        value = key.get_secret_value()
        if not (value and value.isascii() and value.isprintable()):
            raise ValueError("must be printable ASCII, and not empty")
        return key

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
