"""Unknown names of fields in a body and of parameters in a query.

A name that differs from a known one only in case, hyphens or underscores is refused in every call. The error gives
the right name. A service that ignored `decisionId` would lose idempotency; with `isOverdue` it would learn a default.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, Final, get_args

from pydantic_core import from_json

from oo_ml.api.schemas import Body

# Limits of an answer: a body has room for 100,000 unknown names, or for a name of two million characters.
MOST_PROBLEMS: Final = 100
_LONGEST: Final = 100

Location = tuple[str | int, ...]


def problems_in_body(model: type[Body], content: bytes | str) -> list[dict[str, Any]]:
    """Return a problem for each field that `model` neither knows nor ignores; none if the body is not JSON."""
    try:
        value = from_json(content)
    except ValueError:
        return []
    found = (
        _problem("field", location, meant)
        for location, meant in _unknown(model, value, ())
        if meant is not None or model.model_config.get("extra") != "ignore"
    )
    return list(islice(found, MOST_PROBLEMS))


def problems_in_query(names: Iterable[str], known: Iterable[str]) -> list[dict[str, Any]]:
    """Return a problem for each of `names` that is not `known`."""
    meant = {_squeeze(name): name for name in known}
    found = (_problem("parameter", (name,), meant.get(_squeeze(name))) for name in names if name not in meant.values())
    return list(islice(found, MOST_PROBLEMS))


def is_misspelled(problem: Mapping[str, Any]) -> bool:
    """Return whether a problem is a misspelled name."""
    return bool(problem["type"] == "misspelled")


def shorten(location: Location) -> Location:
    """Return a location in which no name is long."""
    return tuple(part[:_LONGEST] if isinstance(part, str) else part for part in location)


def _problem(kind: str, location: Location, meant: str | None) -> dict[str, Any]:
    loc = shorten(location)
    if meant is None:
        return {"loc": loc, "msg": f"unknown {kind}", "type": "extra_forbidden"}
    return {"loc": loc, "msg": f"unknown {kind}: use {meant}", "type": "misspelled"}


def _unknown(model: type[Body], value: object, location: Location) -> Iterator[tuple[Location, str | None]]:
    """Yield the location of each unknown field, and the known name that it misspells, if any."""
    match value:
        case list():
            for place, inner in enumerate(value):
                yield from _unknown(model, inner, (*location, place))
        case dict():
            known, meant = _names(model)
            for name, inner in value.items():
                if name not in known:
                    yield (*location, name), meant.get(_squeeze(name))
                elif (part := known[name]) is not None:
                    yield from _unknown(part, inner, (*location, name))


@cache
def _names(model: type[Body]) -> tuple[Mapping[str, type[Body] | None], Mapping[str, str]]:
    """Return the model that each field holds, None if it holds no model, and each field's name by its squeezed form."""
    known = {name: _part(field.annotation) for name, field in model.model_fields.items()}
    return known, {_squeeze(name): name for name in known}


def _part(annotation: Any) -> type[Body] | None:  # noqa: ANN401 - a type, or what typing has in its place
    """Return the model within an annotation such as `list[Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Body):
        return annotation
    return next(filter(None, map(_part, get_args(annotation))), None)


def _squeeze(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
