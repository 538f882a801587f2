"""Names in the state of the server, which each request sees (the ASGI specification calls it the lifespan state)."""

from typing import Final

# The functions that are told of each connection which the protocol refuses: the error, and the request id.
REFUSED: Final = "refused"

# True from the signal to stop until the service ends.
DRAINING: Final = "draining"
