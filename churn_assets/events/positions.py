"""How far the relay has come: a value for each segment, archive and report, kept by the broker.

    segment/<name>                    offset: bytes of it that are relayed; ended: all of it, whatever its file's length
    archive/<file>                    ended: every segment in it is relayed
    window/<contract>/<number>/<model version>   ended: its drift report is relayed
    gate/<round>                      state: the newest status that is relayed

Each segment has a position of its own, because workers and hosts write side by side: no order of names says which of
them comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one of these is relayed."""

    offset: int = 0
    ended: bool = False
    state: str = ""


NOWHERE, ENDED = Position(), Position(ended=True)
Positions = dict[str, Position]
Changes = Mapping[str, Position | None]  # None: the position is not needed any more

_DECODER, _ENCODER = msgspec.json.Decoder(Position), msgspec.json.Encoder()


def segment_key(name: str) -> str:
    """The key of a segment."""
    return f"segment/{name}"


def archive_key(name: str) -> str:
    """The key of an archive's file name."""
    return f"archive/{name}"


def apply(positions: Positions, changes: Changes) -> None:
    """Bring positions up to date with changes that are committed."""
    for key, position in changes.items():
        if position is None:
            positions.pop(key, None)
        else:
            positions[key] = position


def encode(position: Position | None) -> bytes | None:
    """As it is kept; None is a tombstone."""
    return None if position is None else _ENCODER.encode(position)


def replay(records: Iterable[tuple[int, str, bytes | None]], committed: int | None) -> tuple[Positions, int]:
    """The positions of (transaction, key, value) records in the order of their topic, and the newest transaction of
    all. Records of a transaction after the `committed` one were aborted, and count for nothing; None: unknown, all
    count. Raises msgspec.DecodeError."""
    positions: Positions = {}
    newest = committed or 0
    for transaction, key, value in records:
        newest = max(newest, transaction)
        if committed is None or transaction <= committed:
            apply(positions, {key: None if value is None else _DECODER.decode(value)})
    return positions, newest


def corrections(
    records: Iterable[tuple[int, str, bytes | None]], committed: int | None, positions: Positions
) -> dict[str, Position | None]:
    """What a next transaction has to write so that aborted records count for nothing after it: its number is above
    theirs, so that `replay` would take them for committed ones."""
    if committed is None:
        return {}
    return {key: positions.get(key) for transaction, key, _ in records if transaction > committed}
