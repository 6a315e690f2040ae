"""The stored inputs that once went wrong, in the folder that `CHURN_CASES` names; it is not in the repository.

The modules beside those that use them have tables of the same kinds that always run.
"""

import datetime as dt
import os
from pathlib import Path

import pytest

from churn_assets.drafting.draft import Draft, DraftOptions, draft_contract

CASES = Path(os.environ.get("CHURN_CASES") or "no folder")
INPUTS, SMALL, BIGGER = CASES / "inputs", CASES / "tables" / "small", CASES / "tables" / "bigger"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="CHURN_CASES names no folder of cases")

# Label and churned value of those files where they are not churn and Yes.
_LABELS = {
    "three_states": ("status", "Churned"),
    "three_states_3000": ("status", "Churned"),
    "nested": ("Churn", "Yes"),
    "gbk": ("是否流失", "是"),
    "shift_jis": ("退会", "はい"),
    "cp1251": ("отток", "да"),
    "pt": ("cancelou", "Sim"),
    "label_trailing_blank": ("Customerstatus", "Yes"),
    "label_10": ("churn", "1"),
    "independent_given_label": ("churn", "1"),
    "no_signal": ("churn", "1"),
    "noise_base92": ("churn", "1"),
}


def label_of(path: Path) -> tuple[str, str]:
    """The label of a case and its value for a churner."""
    return _LABELS.get(path.name.partition(".")[0], ("churn", "Yes"))


def draft_of(path: Path) -> Draft:
    """The draft of a case, on a fixed day."""
    return draft_contract(path, DraftOptions(*label_of(path)), today=dt.date(2026, 11, 26))


def tables_in(*folders: Path) -> list[Path]:
    """The tables of these folders, none if the cases are not there."""
    files = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return sorted(path for path in files if path.suffix not in (".py", ".sh"))
