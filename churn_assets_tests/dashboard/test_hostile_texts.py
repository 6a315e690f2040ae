"""Names, categories, reasons, ids and messages with markup, wherever the home keeps them: every page shows them as
text, and the files for spreadsheets have no formula."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from urllib.parse import quote

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.alerting.alerts import Alert, raise_alert
from churn_assets.alerting.destinations import AlertSettings
from churn_assets.prediction_log.schema import literal
from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import NOW, visit
from churn_assets_tests.dashboard.test_monitoring import changed
from churn_assets_tests.dashboard.test_pages import PATHS

EVIL = "=cmd|'/c calc'!A1\"><img src=x onerror=alert(1)></script><script>alert(2)</script>{{7*191919}}"
MARKUP = re.compile(r"<img|<script>|onerror=alert\(1\)>|1343433", re.I)
WORDS = frozenset({"message", "words", "blind_to", "expected", "found", "actual"})  # "words" as release 0.1 wrote it


@pytest.fixture(scope="module")
def evil(made, tmp_path_factory):
    """A home with this text wherever one may stand."""
    root = tmp_path_factory.mktemp("evil")
    shutil.copytree(made.home, root / "home")
    settings = Settings(root=root, home=root / "home", contract_path=made.contract_path)
    path = settings.assets_dir / "risk_list.parquet"
    table = pq.read_table(path)
    for name in ("customer_id", "reason_1"):
        place = table.schema.get_field_index(name)
        texts = pa.chunked_array([[EVIL, *table[name].to_pylist()[1:]]], table.schema.field(name).type)
        table = table.set_column(place, table.schema.field(name), texts)
    pq.write_table(table, path)
    for file in (*settings.assets_dir.glob("*_report.json"), *settings.monitoring_dir.rglob("*.json")):
        file.write_text(json.dumps(with_evil(json.loads(file.read_text()))))
    champion = json.loads((settings.home / "champion.json").read_text())
    (settings.home / "champion.json").write_text(json.dumps({**champion, "reason": EVIL, "by": EVIL}))
    raise_alert(AlertSettings(settings.home), Alert("evil", "drift", EVIL, EVIL), NOW)
    text = literal(EVIL)
    changed(
        settings,
        f"UPDATE predictions SET customer_id = {text}, arm = {text}, status = {text}, x_favday = {text} "
        "WHERE seq % 7 = 0; "
        f"INSERT INTO rejections SELECT 1, '2026-11-26 09:00', '2026-11-26 09:01', 'w', {text}, 3, 's'",
    )
    return settings


def with_evil(value):
    """The same JSON with the text behind every sentence."""
    if isinstance(value, dict):
        return {k: f"{v} {EVIL}" if k in WORDS and isinstance(v, str) else with_evil(v) for k, v in value.items()}
    return [with_evil(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", [*(path for path in PATHS if path != "/customer"), "evil customer"])
def test_a_page_shows_texts_as_text(evil, path):
    page, json_path = PATHS.get(path, (f"/customer?id={quote(EVIL)}", f"/customer.json?id={quote(EVIL)}"))
    visitor = visit(evil)
    html, told = visitor.client.get(page), visitor.client.get(json_path)
    assert (html.status_code, told.status_code) == (200, 200)
    assert MARKUP.findall(html.text) == []
    assert told.headers["content-type"].startswith("application/json")
    assert told.headers["x-content-type-options"] == "nosniff"
    if path in ("/", "/calls", "/monitoring", "/performance", "/alerts", "evil customer"):
        assert "&lt;img" in html.text
        assert EVIL in told.text.replace('\\"', '"')


def test_sheets_have_no_formula(evil):
    visitor = visit(evil)
    rows = list(csv.reader(io.StringIO(visitor.client.get("/calls.csv").content.decode("utf-8-sig"))))
    assert any(EVIL in cell for cell in rows[1])
    assert [
        cell for row in rows for cell in row if cell.startswith(("=", "+", "@", "\t")) or cell.startswith("-=")
    ] == []
    book = openpyxl.load_workbook(io.BytesIO(visitor.client.get("/calls.xlsx").content))
    cells = [cell for row in book["Calls"].iter_rows() for cell in row if isinstance(cell.value, str)]
    assert [cell.value for cell in cells if cell.data_type == "f" or cell.value.startswith("=")] == []


def test_what_a_query_says_comes_back_as_text(evil):
    client = visit(evil).client
    for query in (
        "/calls?band={}",
        "/calls?column={}",
        "/monitoring?window={}",
        "/monitoring?segment={}",
        "/nothing/{}",
    ):
        response = client.get(query.format("<img src=x>"))
        assert response.status_code in (400, 404)
        assert "<img" not in response.text
    assert client.get("/calls?reason=<img src=x>&level=<img>&column=favday").text.count("<img") == 0
