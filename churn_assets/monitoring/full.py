"""Whether a window of predictions is full, told by the ingest in one small file, so that a sensor need not count."""

from __future__ import annotations

from typing import Any

from churn_assets.contract.model import Contract
from churn_assets.errors import NothingIngested
from churn_assets.monitoring.windows import read_json, read_windows, still_open, write_json
from churn_assets.predlog.published import open_published
from churn_assets.release.state import read_champion
from churn_assets.settings import Settings

OPEN = "open.json"


def note_open(settings: Settings, contract: Contract) -> dict[str, Any] | None:
    """Count the customers since the last closed window, and keep the figure; None before the first prediction.

    The value has `fingerprint`, `window` (the number it will have), `customers`, `wanted` (0: windows
    close by days). Raises WarehouseCorrupt, WindowUnreadable, PointerCorrupt.
    """
    champion = read_champion(settings.home)
    if champion is None:
        return None
    windows = read_windows(settings, champion.fingerprint)
    last = windows[-1] if windows else None
    limits = contract.monitoring
    try:
        with open_published(settings) as connection:
            waiting = still_open(connection, champion.fingerprint, limits, last)
    except NothingIngested:
        return None
    found = {
        "fingerprint": champion.fingerprint,
        "window": last.window + 1 if last else 1,
        "customers": waiting.customers,
        "wanted": 0 if limits.window_days else limits.window,
    }
    write_json(settings.monitoring_dir / OPEN, found)
    return found


def full_window(settings: Settings) -> str | None:
    """A name for the window that is full and not closed yet, None while there is none. Raises WindowUnreadable."""
    found = read_json(settings.monitoring_dir / OPEN)
    if not found or not found["wanted"] or found["customers"] < found["wanted"]:
        return None
    closed = read_windows(settings, found["fingerprint"])
    if closed and closed[-1].window >= found["window"]:
        return None
    return f"{found['fingerprint'][:12]}-{found['window']:04d}"
