"""The fixtures of tests/api/access: keys, and a service whose calls need them."""

from tests.api.access.conftest import create_key, guarded

__all__ = ["create_key", "guarded"]
