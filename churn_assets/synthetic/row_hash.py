"""Random numbers that belong to a row: by its number, a seed and a word, and by nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def hashed(rows: npt.NDArray[np.int64], seed: int, word: str) -> npt.NDArray[np.uint64]:
    """A uniform 64-bit number for each row number (splitmix64; Steele, Lea and Flood 2014), shape (rows,)."""
    base = int.from_bytes(hashlib.sha256(f"{seed}\x1f{word}".encode()).digest()[:8], "big")
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def uniform(rows: npt.NDArray[np.int64], seed: int, word: str) -> npt.NDArray[np.float64]:
    """A uniform number in [0, 1) for each row number, shape (rows,)."""
    return np.asarray((hashed(rows, seed, word) >> np.uint64(11)) * 2.0**-53)
