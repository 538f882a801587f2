"""Types of settings whose text must have a format."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

# As text, 96 random bits have this length.
_SHORTEST_KEY: Final = 16
# As long as the column that holds it.
_LONGEST_NAME: Final = 200
_RATE: Final = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
# Names that SQL need not quote.
_SCHEMA_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


def _split(configured: object) -> object:
    """Return the entries of a comma list."""
    if not isinstance(configured, str):
        return configured
    return tuple(entry.strip() for entry in configured.split(",") if entry.strip())


def _schema_name(name: str) -> str:
    if not _SCHEMA_NAME.fullmatch(name):
        raise ValueError("must be 1 to 63 lower-case letters, digits and _, and not begin with a digit or pg_")
    return name


def _http_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        # urlsplit removes line breaks.
        usable = usable and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address like http://localhost:4000")
    return url


def _header_value(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if not (value and value.isascii() and value.isprintable()):
        raise ValueError("must be printable ASCII, and not empty")
    return key


def _long_secret(key: SecretStr | None) -> SecretStr | None:
    value = "" if key is None else key.get_secret_value()
    if key is not None and not (len(value) >= _SHORTEST_KEY and value.isascii() and value.isprintable()):
        raise ValueError(
            f"must be at least {_SHORTEST_KEY} printable characters of ASCII, such as `openssl rand -hex 32` prints"
        )
    return key


def _host_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(host.lower().removeprefix("[").removesuffix("]") for host in hosts)
    if any("/" in name or name.count(":") == 1 for name in names):
        raise ValueError("must be names or addresses without scheme and port, such as ml.example.com")
    return names


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        parts = urlsplit(origin)
        is_origin = parts.scheme in {"http", "https"} and origin == f"{parts.scheme}://{parts.netloc}"
        if not (is_origin and parts.hostname):
            raise ValueError("must be a comma list of origins like https://app.example.com")
    return origins


def _rate(rate: str) -> str:
    if not _RATE.fullmatch(rate):
        raise ValueError("must be a number of calls and a time, such as 100/second, 5000/minute or 100000/hour")
    return rate


def _model_name(name: str) -> str:
    if not (name.isprintable() and 0 < len(name.encode()) <= _LONGEST_NAME):
        raise ValueError(f"must be 1 to {_LONGEST_NAME} bytes of printable text")
    return name


# pydantic-settings would read a list as JSON.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
HostNames = Annotated[Names, AfterValidator(_host_names)]
Origins = Annotated[Names, AfterValidator(_origins)]
SchemaName = Annotated[str, AfterValidator(_schema_name)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
LongSecret = Annotated[SecretStr | None, AfterValidator(_long_secret)]
Rate = Annotated[str, AfterValidator(_rate)]
ModelName = Annotated[str, AfterValidator(_model_name)]
