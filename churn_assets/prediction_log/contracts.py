"""Contracts that predictions were made under: the one in use, those of bundles, and those seen before."""

from __future__ import annotations

from pathlib import Path

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.errors import ContractError
from churn_assets.storage.files import write_text

_BUNDLE_FILE = "contract.toml"  # as scoring.bundle writes it


class KnownContracts:
    """Finds a contract by its fingerprint; what it finds is kept, so that it is known when its bundle is gone.

    `folder` is the warehouse's own `<fingerprint>.toml` files, `bundles` where a version's folder lies.
    """

    def __init__(self, folder: Path, bundles: Path, current: Contract) -> None:
        self._folder, self._bundles, self._current = folder, bundles, current

    def find(self, fingerprint: str, version: str) -> Contract | None:
        """The contract, or None where neither this project, nor the bundle of `version`, nor the past knows it."""
        if fingerprint == self._current.fingerprint:
            self._keep(self._current)
            return self._current
        if not (fingerprint.isalnum() and version.isalnum()):  # a line is no path
            return None
        for path in (self._folder / f"{fingerprint}.toml", self._bundles / version / _BUNDLE_FILE):
            try:
                found = load_contract(path)
            except ContractError:
                continue
            if found.fingerprint == fingerprint:
                self._keep(found)
                return found
        return None

    def _keep(self, contract: Contract) -> None:
        path = self._folder / f"{contract.fingerprint}.toml"
        if path.exists() or not contract.text:
            return
        write_text(path, contract.text)
