"""`oo-ml` whose service lacks all that stands in front of its calls: keys, checks, request ids, metrics of requests.

Beside the service itself it shows what these cost. It is for measuring only.
"""

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from oo_ml.api import app as api
from oo_ml.api import exchanges, heads
from oo_ml.api.access import scopes
from oo_ml.api.exchanges import Exchange, Observer
from oo_ml.cli.main import main
from oo_ml.domain.access import OPEN

_EXCHANGE: Final = Exchange(method="(any)", request_id="(none)")


class _Bare:
    """In place of `Observed`: middleware that attaches what the calls read, always the same."""

    def __init__(self, app: ASGIApp, _: Sequence[Observer]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on."""
        if scope["type"] == "http":
            heads.attach(scope)
            exchanges.attach(scope, _EXCHANGE)
            scopes.remember(scope, OPEN)
        await self._app(scope, receive, send)


def _unguarded(app: ASGIApp, *_: object) -> ASGIApp:
    return app


# Outside of `main`, so that several processes, which import this module too, serve without it as well.
vars(api).update(Observed=_Bare, Guard=_unguarded)

if __name__ == "__main__":
    main()
