"""Traffic: which policy decides for a user whose client names none.

A user keeps a policy as long as the shares stay the same, because policies learn for each user. The shares lie side by
side, by name, so a change moves the users next to the borders that it moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import fsum, isclose

from oo_ml.domain.version_probabilities import pick


@dataclass(frozen=True, slots=True)
class Traffic:
    """Shares of the users.

    Attributes:
        salt: makes the draws independent of those of other services that hash the same user ids.
        shares: for each policy its share, > 0; their sum is 1.
    """

    salt: str
    shares: Mapping[str, float]

    def pick(self, user_id: str) -> str:
        """Return the policy of a user. Its share is the probability of this draw."""
        digest = sha256(f"{self.salt}\0{user_id}".encode()).digest()
        uniform = (int.from_bytes(digest[:8]) >> 11) * 2.0**-53
        # By name, so that a policy keeps its place whatever the order in which shares are written.
        names = sorted(self.shares)
        return names[pick([self.shares[name] for name in names], uniform)]


def is_whole(shares: Mapping[str, float]) -> bool:
    """Return whether shares are of all users: each above 0, and the sum 1 up to rounding."""
    return all(share > 0 for share in shares.values()) and isclose(fsum(shares.values()), 1.0, abs_tol=1e-9)
