"""How a handler gets hold of the services of its application."""

from typing import cast

from fastapi import Request

from oo_ml.services.startup import Services


def services(request: Request) -> Services:
    """Return what the application was started with."""
    return cast("Services", request.app.state.services)
