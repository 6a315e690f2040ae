"""Contacts are records of their own: imported once, all or none, and known to the labels."""

from __future__ import annotations

import datetime as dt

import pytest

from churn_assets.data.outcomes import import_contact_file
from churn_assets.errors import ColumnMissing, RowsRejected
from churn_assets.prediction_log.contacts import ImportedContacts
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets_tests.prediction_log.home import STORE, ask, settings

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
FILE = (
    "customer_id,event,contacted_at,who,note\nc1,contacted,2026-01-20,Ana,\n"
    "7,offered,2026-01-21T10:00:00+02:00,,x\nc3,control,2026-01-20,Ana,\n7,saved,2026-01-22,Ana,\n"
)


def test_a_file_is_imported_once_before_and_after_the_ingest(tmp_path):
    (tmp_path / "calls.csv").write_text(FILE + "c3,control,2026-01-20,Ana,\n", encoding="utf-8")
    home = settings(tmp_path / "home")
    assert import_contact_file(home, tmp_path / "calls.csv", NOW) == ImportedContacts(4, 0, 1)
    assert import_contact_file(home, tmp_path / "calls.csv", NOW) == ImportedContacts(0, 4, 1)
    assert ingest(home, STORE).quarantined == 0
    assert import_contact_file(home, tmp_path / "calls.csv", NOW) == ImportedContacts(0, 4, 1)
    assert ask(home, "SELECT customer_id, event, contacted_at, who FROM contacts ORDER BY seq") == [
        ("c1", "contacted", dt.datetime(2026, 1, 20), "Ana"),
        ("7", "offered", dt.datetime(2026, 1, 21, 8), None),
        ("c3", "control", dt.datetime(2026, 1, 20), "Ana"),
        ("7", "saved", dt.datetime(2026, 1, 22), "Ana"),
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("customer_id,event\nc1,contacted\n", ColumnMissing, "no column contacted_at"),
        (FILE + "c4,phoned,2026-01-20,,\n", RowsRejected, "contacted, offered, saved, control"),
        (FILE + "c4,offered,soon,,\n", RowsRejected, "a date or instant"),
        (FILE + "c4,offered,2036-01-20,,\n", RowsRejected, "not in the future"),
        (FILE + ",offered,2026-01-20,,\n", RowsRejected, "customer_id"),
    ],
)
def test_one_invalid_row_and_nothing_is_imported(tmp_path, text, error, message):
    (tmp_path / "calls.csv").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        import_contact_file(settings(tmp_path / "home"), tmp_path / "calls.csv", NOW)
    assert not (tmp_path / "home").exists()
