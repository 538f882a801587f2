"""Names in the state of the server, which each request sees (the ASGI specification calls it the lifespan state)."""

from typing import Final

# The function that counts a connection which the protocol refuses, by error code.
REFUSED: Final = "refused"

# True from the signal to stop until the service ends.
DRAINING: Final = "draining"
