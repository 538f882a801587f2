"""The calls that each key may make in a time. Each process counts for itself."""

import math
import time

from oo_ml.domain.access import Caller
from oo_ml.errors import RateLimitedError


class RateLimit:
    """A number of calls in windows of fixed length, for each key."""

    def __init__(self, rate: str) -> None:
        """Allow `rate`, such as `100/second`."""
        # Most services have no limit, and start without these modules.
        from limits import parse  # noqa: PLC0415
        from limits.aio.storage import MemoryStorage  # noqa: PLC0415
        from limits.aio.strategies import FixedWindowRateLimiter  # noqa: PLC0415

        self._rate = parse(rate)
        # After the end of a window of this strategy a call is certain to be allowed, so Retry-After can be exact.
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def count(self, caller: Caller) -> None:
        """Count a call.

        Raises:
            RateLimitedError: the key has made as many calls in this window as it may.
        """
        if not await self._limiter.hit(self._rate, caller.key_id):
            window = await self._limiter.get_window_stats(self._rate, caller.key_id)
            raise RateLimitedError(retry_after=max(1, math.ceil(window.reset_time - time.time())))
