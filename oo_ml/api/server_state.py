"""Names in the state of the server, which each request sees (the ASGI specification calls it the lifespan state)."""

from typing import Final

# True from the signal to stop until the service ends.
DRAINING: Final = "draining"
