"""Environment variables before they are validated: unknown names, and secrets that are in files."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from oo_ml.errors import ConfigurationError

PREFIX: Final = "OO_ML_"
# After the name of a secret: a file that contains it.
FILE: Final = "_FILE"
# Kubernetes sets these for a Service called oo-ml.
_SERVICE_LINK: Final = re.compile(r"OO_ML_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_\w+)?)")


def refuse_unknown(environment: Mapping[str, str], variables: Collection[str]) -> None:
    """Refuse names with the prefix of settings that are not in `variables`.

    Raises:
        ConfigurationError: a name is unknown. It names each, with the most similar name that exists.
    """
    problems = list(_describe_unknown(environment, variables))
    if problems:
        raise ConfigurationError("\n".join(problems))


def _describe_unknown(environment: Mapping[str, str], variables: Collection[str]) -> Iterator[str]:
    # The prefix would make every name similar.
    rests = [name.removeprefix(PREFIX) for name in variables if name.startswith(PREFIX)]
    # pydantic-settings reads names in any case.
    for name, value in sorted((name.upper(), value) for name, value in environment.items()):
        is_link = _SERVICE_LINK.fullmatch(name) or (name == "OO_ML_PORT" and "://" in value)
        if name.startswith(PREFIX) and name not in variables and not is_link:
            near = difflib.get_close_matches(name.removeprefix(PREFIX), rests, n=1)
            said = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            yield f"{name}: there is no such setting{said}"


def read_secret(environment: Mapping[str, str], variable: str) -> str | None:
    """Return the text of the file that `environment` names for a secret, or None if it names none.

    Raises:
        ConfigurationError: the file can't be read, or the secret is also given itself.
    """
    path = environment.get(f"{variable}{FILE}")
    if not path:
        return None
    if environment.get(variable):
        raise ConfigurationError(f"Set {variable} or {variable}{FILE}, not both")
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{variable}{FILE}: the file can't be read: {reason}") from None
