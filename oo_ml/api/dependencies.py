"""Dependencies of handlers: the services of their application, and a query without unknown parameters."""

from collections.abc import Iterator
from typing import Final, cast

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from oo_ml.api.field_names import problems_in_query
from oo_ml.services.container import Services


def services(request: Request) -> Services:
    """Return the services of the application."""
    return cast("Services", request.app.state.services)


async def _refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query that has a parameter which the route does not take.

    Raises:
        RequestValidationError: the query has an unknown parameter.
    """
    if not request.query_params:
        return
    if problems := problems_in_query(request.query_params, _parameters(request.scope["route"])):
        raise RequestValidationError([{**problem, "loc": ("query", *problem["loc"])} for problem in problems])


def _parameters(route: APIRoute) -> Iterator[str]:
    """Yield the names of a route's query parameters; a parameter that is a model stands for its fields."""
    for field in route.dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from annotation.model_fields
        else:
            yield field.alias


# Dependency of every router with calls that are not the contract's.
KNOWN_PARAMETERS_ONLY: Final = Depends(_refuse_unknown_parameters)
