"""Which share of the customers somebody belongs to: a keyed hash of the id, the same in every process and for ever."""

from __future__ import annotations

from hashlib import blake2b

_BYTES = 8
_WHOLE = 2.0 ** (8 * _BYTES)


def share_of(salt: str, customer_id: str) -> float:
    """A number in [0, 1), uniform over ids, that nobody can choose who does not know the salt."""
    digest = blake2b(customer_id.encode("utf-8", "surrogatepass"), key=salt.encode(), digest_size=_BYTES).digest()
    return min(int.from_bytes(digest, "big") / _WHOLE, 1.0 - 2.0**-53)
