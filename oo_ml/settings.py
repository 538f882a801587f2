"""Every setting of the service, in one frozen object read from the environment.

Names carry the prefix OO_ML_; the four that the HTTP contract names are read as they stand there.
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

# More than anybody means, and times before it can still be told.
_YEARS = 100
_DAY = 86_400.0
# A name that SQL need not quote.
_SCHEMA_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
# What TIP_PROMPT_VERSION is where versions are judged by their rewards; no version may be called so.
AUTO: Final = "auto"


class ResponseFormat(StrEnum):
    """What the gateway is told about the shape of a reply."""

    NONE = "none"
    JSON_SCHEMA = "json_schema"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("oo-ml", appauthor=False)


class Settings(BaseSettings):
    """The settings of one process. A value that makes no sense is refused when the process starts."""

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
    alpha: Annotated[float, Field(ge=0, le=1e6, description="Width of LinUCB's confidence bound")] = 1.0
    epsilon: Annotated[float, Field(ge=0, le=1, description="Share of epsilon-greedy decisions drawn at random")] = 0.1

    exploration: Annotated[
        float, Field(ge=0, le=1, description="Share of LinUCB decisions drawn at random, so that others can be judged")
    ] = 0.0
    reward_wait: Annotated[
        Annotated[float, Field(gt=0, le=_YEARS * 366 * 86_400)] | None,
        Field(description="Time after which a decision without a reward gets OO_ML_DEFAULT_REWARD; empty: never"),
    ] = None
    default_reward: Annotated[
        float, Field(ge=-1, le=1, description="What a decision gets that had no reward in time")
    ] = 0.0

    # Prompt versions
    tip_prompt_version: Annotated[
        str,
        Field(
            validation_alias="TIP_PROMPT_VERSION",
            description="Version used when a request names none; of a comma list one at random; auto: by their rewards",
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
        bool, Field(description="Whether a person keeps the prompt version that the registry's weights gave them")
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
    llm_timeout: Annotated[PositiveFloat, Field(description="Longest wait for one answer of the gateway")] = 30.0
    llm_connect_timeout: Annotated[PositiveFloat, Field(description="Longest wait for a connection to the gateway")] = (
        3.0
    )
    llm_max_connections: Annotated[PositiveInt, Field(description="Calls to the gateway under way at once")] = 50
    llm_max_reply_bytes: Annotated[PositiveInt, Field(description="Largest answer read from the gateway")] = 1_048_576

    # Database
    database_url: Annotated[
        SecretStr | None,
        Field(description="postgresql://... ; without it a private PostgreSQL is started in the data directory"),
    ] = None
    analytics_schema: Annotated[
        str, Field(description="PostgreSQL schema of the reports, if another application has a schema analytics")
    ] = "analytics"
    rollup_schema: Annotated[
        str, Field(description="PostgreSQL schema of the views behind the reports, if rollup is taken")
    ] = "rollup"
    data_dir: Annotated[Path, Field(description="Where the private PostgreSQL keeps its data")] = Field(
        default_factory=_default_data_dir
    )
    postgres_bin_dir: Annotated[
        Path | None,
        Field(description="Directory of initdb and postgres for the private PostgreSQL; default: the wheel's"),
    ] = None
    postgres_start_timeout: Annotated[
        PositiveFloat, Field(description="Longest wait for the private PostgreSQL to start or stop")
    ] = 60.0
    lanes: Annotated[
        int, Field(gt=0, le=1000, description="Lanes, each a thread with one connection, that decide and learn")
    ] = 2
    lane_batch: Annotated[
        int, Field(gt=0, le=10_000, description="Most decisions, or rewards, that share a lane's transaction")
    ] = 64
    lane_queue: Annotated[
        PositiveInt, Field(description="Calls that may wait in each lane; one more is answered 503")
    ] = 256
    lane_lock_timeout: Annotated[
        PositiveFloat,
        Field(description="Longest wait of a lane for a row lock; its user's calls wait on, up to OO_ML_LOCK_TIMEOUT"),
    ] = 0.1
    lane_one_user: Annotated[
        bool,
        Field(description="Whether a transaction holds one user's calls only, for a database sharded by user_id"),
    ] = False
    database_workers: Annotated[
        PositiveInt, Field(description="Threads, each with one connection, for batch calls, prompts and generations")
    ] = 2
    database_readers: Annotated[
        PositiveInt, Field(description="The same for reports, so that they can't keep decisions waiting")
    ] = 4
    database_queue: Annotated[
        PositiveInt, Field(description="Transactions that may wait for a thread; one more is answered 503")
    ] = 256
    database_connect_timeout: Annotated[
        PositiveInt, Field(description="Longest wait for a connection to PostgreSQL")
    ] = 2
    database_prepare_threshold: Annotated[
        int, Field(ge=-1, description="Runs of a statement before it is prepared; -1 never (for PgBouncer)")
    ] = 5
    statement_timeout: Annotated[PositiveFloat, Field(description="Longest run of one statement")] = 1.5
    lock_timeout: Annotated[PositiveFloat, Field(description="Longest wait for a row lock")] = 1.0
    long_workers: Annotated[
        int, Field(gt=0, le=1000, description="Threads, each with one connection, for verify, export, erase and upkeep")
    ] = 2
    long_timeout: Annotated[
        float,
        Field(
            gt=0, le=_DAY, description="What OO_ML_REQUEST_TIMEOUT and OO_ML_STATEMENT_TIMEOUT are for others, for them"
        ),
    ] = 60.0
    upkeep_interval: Annotated[
        float,
        Field(ge=0, le=_DAY, description="Time between two runs of upkeep by the service; 0: `oo-ml upkeep` alone"),
    ] = 60.0
    history_retention: Annotated[
        Annotated[int, Field(gt=0, le=_YEARS * 12)] | None,
        Field(description="Months of feature_history kept, besides this one; older are detached; empty: all"),
    ] = None
    migration_wait: Annotated[
        PositiveFloat, Field(description="Longest wait for another process that is migrating")
    ] = 600.0
    migration_lock_timeout: Annotated[
        PositiveFloat, Field(description="Longest wait of a migration's statement for a table lock")
    ] = 5.0

    # HTTP
    processes: Annotated[
        int,
        Field(
            gt=0,
            le=1000,
            description="Processes of `oo-ml serve`, each with lanes and threads of its own; one uses a core",
        ),
    ] = 1
    request_timeout: Annotated[
        PositiveFloat, Field(description="Time after which a call that waits for PostgreSQL is answered 503")
    ] = 1.9
    max_body_bytes: Annotated[PositiveInt, Field(description="Largest request body")] = 2_097_152
    shutdown_timeout: Annotated[
        PositiveInt, Field(description="Time that calls under way get to finish when the service stops")
    ] = 10

    log_level: Annotated[
        LogLevel,
        Field(description="debug, info, warning or error; if it is not set, most commands log errors only"),
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

    def shown(self, name: str) -> str:
        """Return a setting for people to read; of a secret, only whether there is one."""
        value = getattr(self, name)
        return "" if value is None else str(value)

    @field_validator("tip_prompt_version")
    @classmethod
    def _auto_stands_alone(cls, configured: str) -> str:
        names = {entry.strip() for entry in configured.split(",")} - {""}
        if AUTO in names and len(names) > 1:
            raise ValueError(f"{AUTO} means every version in use and stands alone")
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
