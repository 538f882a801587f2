"""A service whose calls need keys, and keys for it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from oo_ml.domain.access import Scope
from oo_ml.services.access import keys
from oo_ml.services.access.keys import CreatedKey, CreateKeyCommand
from oo_ml.setting_choices import Auth
from tests.conftest import Serve
from tests.serving import Service
from tests.sessions import writing

Create = Callable[..., CreatedKey]

ADMIN_TOKEN = "an-admin-key-of-the-tests"  # noqa: S105


@pytest.fixture
def create_key(db: Engine) -> Create:
    """Create keys, by scopes and, if they expire, their end."""

    def create(*scopes: Scope, name: str = "app", expires_at: datetime | None = None) -> CreatedKey:
        command = CreateKeyCommand(name, scopes, datetime.now(UTC), expires_at)
        with writing(db) as session:
            [created] = keys.create(session, [command])
        assert isinstance(created, CreatedKey)
        return created

    return create


@pytest.fixture
def guarded(serve: Serve) -> Service:
    """A service whose calls need a key; it reads the keys again for every call."""
    return serve(auth=Auth.REQUIRED, key_max_age=1e-9, admin_key=ADMIN_TOKEN, epsilon=0)


def bearer(token: str) -> dict[str, str]:
    """Return the header with a token."""
    return {"Authorization": f"Bearer {token}"}
