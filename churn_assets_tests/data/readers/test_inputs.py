"""One table in every shape in which people have it, read as the same table; and one line for what cannot be read."""

import base64
import bz2
import codecs
import gzip
import io
import json
import os
import zipfile

import openpyxl
import pyarrow as pa
import pytest

from churn_assets.contract.model import Column, Contract, Kind, Role, Source
from churn_assets.data.readers.read import read_names, read_table, reading_contract
from churn_assets.drafting.draft import DraftOptions, draft_contract
from churn_assets.errors import SheetNotFound, SourceError, SourceUnreadable
from churn_assets_tests.cases import SMALL, needs_cases

ROWS = [
    ["id", "plan, now", "spend", "churn"],
    *([f"C{i:03d}", "Süd" if i % 2 else 'a "b"', f"{i}.50", "Yes" if i % 3 else "No"] for i in range(40)),
]
TABLE = pa.table(dict(zip(ROWS[0], map(list, zip(*ROWS[1:], strict=True)), strict=True)))
RECORDS = TABLE.to_pylist()


def contract(names=("id", "plan, now", "spend", "churn")) -> Contract:
    columns = [Column(name, Kind.TEXT, Role.LABEL if name == names[-1] else Role.FEATURE) for name in names]
    return reading_contract(Source(), tuple(columns))


def text(delimiter=",", end="\n", rows=ROWS) -> str:
    def cell(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if delimiter in value or '"' in value else value

    return end.join(delimiter.join(map(cell, row)) for row in rows) + end


def wrapped(delimiter=";", header_too=True) -> str:
    lines = text(delimiter).splitlines()
    quoted = ['"' + line.replace('"', '""') + '"' for line in lines]
    return "\n".join(quoted if header_too else [lines[0], *quoted[1:]])


def workbook(*sheets) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        page = book.create_sheet(title)
        for row in rows:
            page.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def archive(*members) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return content.getvalue()


def nested(record):
    return {**{name: record[name] for name in ("id", "plan, now")}, "more": {"deep": {"spend": float(record["spend"])}}}


CSV, DICTIONARY = text().encode(), [["Variable", "Meaning"], ["plan", "tariff"]]
SAME = {
    "sep line": ("a.csv", ("sep=;\r\n" + text(";", "\r\n")).encode()),
    "sep line of a delimiter that is not tried": ("a.csv", ("sep=^\n" + text("^")).encode()),
    "sep line in UTF-16": ("a.csv", ("sep=\t\n" + text("\t")).encode("utf-16")),
    "preamble": ("a.csv", ("Customer report\nmade 2025-01-01\n\n" + text()).encode()),
    "preamble of two cells": ("a.csv", ("Report;made 2025\n" + text(";")).encode()),
    "preamble padded by a spreadsheet": ("a.csv", ("Report,,,\n,,,\n" + text()).encode()),
    "preamble after a sep line": ("a.csv", ("sep=;\nReport\n" + text(";")).encode()),
    "groups above the header": ("a.csv", ("who,what,what,outcome\n" + text()).encode()),
    "groups above the header of a sheet": ("a.xlsx", workbook(("s", [["who", "what", "what", "outcome"], *ROWS]))),
    "blank lines first": ("a.csv", ("\n\n" + text()).encode()),
    "whole lines quoted": ("a.csv", wrapped().encode()),
    "whole lines quoted, one of them empty": ("a.csv", (wrapped() + '\n""\n').encode()),
    "whole lines quoted, with commas": ("a.csv", wrapped(",").encode()),
    "rows quoted, the header not": ("a.csv", wrapped(",", header_too=False).encode()),
    "whole lines quoted under a preamble": ("a.csv", ("Report\n" + wrapped()).encode("cp1252")),
    "old Mac line ends": ("a.csv", text(end="\r").encode()),
    "UTF-8 with a mark": ("a.csv", text().encode("utf-8-sig")),
    "UTF-16": ("a.csv", text().encode("utf-16")),
    "UTF-32": ("a.csv", text().encode("utf-32")),
    "UTF-32 in the other order": ("a.csv", codecs.BOM_UTF32_BE + text().encode("utf-32-be")),
    "json in UTF-16": ("a.json", json.dumps(RECORDS, ensure_ascii=False).encode("utf-16")),
    "json in UTF-16 in the other order": ("a.json", codecs.BOM_UTF16_BE + json.dumps(RECORDS).encode("utf-16-be")),
    "json lines in UTF-32": ("a.jsonl", "\n".join(map(json.dumps, RECORDS)).encode("utf-32")),
    "UTF-16 without a mark": ("a.csv", text("\t").encode("utf-16-le")),
    "cp1252": ("a.csv", text().encode("cp1252")),
    "gz": ("a.csv.gz", gzip.compress(CSV)),
    "bz2 in upper case": ("A.CSV.BZ2", bz2.compress(CSV)),
    "gz of tabs": ("a.tsv.gz", gzip.compress(text("\t").encode("utf-16"))),
    "zip": ("a.zip", archive(("folder/a.csv", CSV))),
    "zip with notes": ("a.zip", archive(("README.txt", b"about it"), ("__MACOSX/._a.csv", b"x"), ("a.csv", CSV))),
    "zip of a folder by its path": ("a.zip", archive(("./x.csv/", b""), ("./x.csv/a.csv", CSV))),
    "zip of a workbook": ("a.zip", archive(("a.xlsx", workbook(("s", ROWS))))),
    "json lines": ("a.jsonl", "\n".join(map(json.dumps, RECORDS)).encode()),
    "json lines with a mark, compressed": ("a.ndjson.gz", gzip.compress("\n".join(map(json.dumps, RECORDS)).encode())),
    "json lines in .json": ("a.json", "\n".join(map(json.dumps, RECORDS)).encode("utf-8-sig")),
    "json list": ("a.json", json.dumps(RECORDS).encode()),
    "json list, pretty, in .jsonl": ("a.jsonl", json.dumps(RECORDS, indent=2, ensure_ascii=False).encode()),
    "empty rows": ("a.csv", ("\n,,,\n".join(text().splitlines()) + "\n" + ",,,\n" * 99).encode()),
    "empty rows of a workbook": ("a.xlsx", workbook(("s", [row for r in ROWS for row in (r, [None, " "[1:]])]))),
    "notes in one cell": ("a.csv", (text(";") + "\n(40 rows affected)\nEnd of report\n\x1a").encode()),
    "a line of dashes below the header": ("a.csv", "\n-----+-----\n".join(text("|").split("\n", 1)).encode()),
    "carets": ("a.csv", text("^").encode()),
    "tildes": ("a.txt", text("~").encode()),
    "json of columns": ("a.json", json.dumps(TABLE.to_pydict()).encode()),
    "json of columns by row": ("a.json", TABLE.to_pandas().to_json().encode()),
    "json of names and rows": ("a.json", TABLE.to_pandas().to_json(orient="split").encode()),
    "json by id": ("a.json", json.dumps({r["id"]: {k: r[k] for k in ROWS[0][1:]} for r in RECORDS}).encode()),
    "json of pandas with its schema": ("a.json", TABLE.to_pandas().to_json(orient="table", index=False).encode()),
    "json under a key": ("a.json", json.dumps({"meta": {"rows": 40}, "data": RECORDS}).encode()),
    "the sheet with the columns": ("a.xlsx", workbook(("Data Dict", DICTIONARY), ("Empty", []), ("Customers", ROWS))),
    "a title above the header of a sheet": ("a.xlsx", workbook(("s", [["Report 2025"], [], *ROWS]))),
    "a workbook under the old suffix": ("a.xls", workbook(("s", ROWS))),
}


@pytest.mark.parametrize("case", SAME)
def test_the_table_is_the_same_in_every_shape(tmp_path, case):
    name, content = SAME[case]
    (tmp_path / name).write_bytes(content)
    assert read_table(tmp_path / name, contract()).to_pylist() == RECORDS
    assert read_names(tmp_path / name, contract()) == ROWS[0]


@pytest.mark.parametrize(
    "case", ["preamble", "whole lines quoted", "cp1252", "json list", "the sheet with the columns"]
)
def test_a_draft_reads_by_itself_what_it_was_drafted_from(tmp_path, case):
    name, content = SAME[case]
    (tmp_path / name).write_bytes(content)
    drafted = draft_contract(tmp_path / name, DraftOptions("churn", "Yes")).contract
    assert read_table(tmp_path / name, drafted).to_pylist() == RECORDS


def test_nested_objects_are_flattened_and_missing_keys_are_null(tmp_path):
    records = [{**nested(RECORDS[0]), "churn": None, "tags": ["a", 1]}, {"id": "", "ok": True, "late": float("nan")}]
    (tmp_path / "a.json").write_text(json.dumps(records))
    assert read_table(tmp_path / "a.json", contract(names=("id", "more.deep.spend"))).to_pylist() == [
        {"id": "C000", "plan, now": 'a "b"', "more.deep.spend": "0.5", "churn": None, "tags": '["a", "1"]'}
        | {"ok": None, "late": None},
        dict.fromkeys(("id", "plan, now", "more.deep.spend", "churn", "tags", "late")) | {"ok": "true"},
    ]


def foreign(names, plans, yes, no) -> str:
    rows = [[f"C{i:03d}", plans[i % 2], str(i * 7 % 13), yes if i % 3 else no] for i in range(40)]
    return text(rows=[names, *rows])


_FOREIGN = """
gb18030    客户编号 套餐 月费 是否流失               基础 标准          是 否
cp932      顧客ID プラン 月額 退会                  基本 標準          はい いいえ
big5       客戶編號 方案 月費 是否流失               基本 進階          是 否
euc_kr     고객번호 요금제 요금 해지                기본 프로          예 아니오
cp1251     ид тариф счёт отток                   базовый про        да нет
koi8-r     ид тариф счёт отток                   базовый про        да нет
cp1253     κωδικός πακέτο ποσό αποχώρησε         βασικό συν         ναι όχι
cp1254     müşteri_no tarife fatura ayrıldı      temel artı         evet hayır
cp1255     מספר תוכנית חשבון עזב                 בסיסי פלוס         כן לא
cp1256     رقم خطة فاتورة غادر                   أساسي زائد         نعم لا
cp874      รหัส แพ็ก ค่า ยกเลิก                      พื้น บวก            ใช่ ไม่
cp1250     id miesiące opłata odszedł            Złoty Śródmieście  tak nie
iso8859-2  id miesiące opłata odszedł            Złoty Śródmieście  tak nie
cp850      Nummer Tarif Gebühr gekündigt         Größe Grün         Ja Nein
mac_roman  id plano ligações cancelou            Básico Pró         Sim Não
cp1252     id plano ligações cancelou            Básico Pró         Sim Não
"""  # noqa: RUF001  # Greek and Turkish
_CASES = {encoding: cells for encoding, *cells in map(str.split, _FOREIGN.strip().splitlines())}
ENCODINGS = {name: (foreign(c[:4], c[4:6], c[6], c[7]), c[3], c[6]) for name, c in _CASES.items()}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_encoding_is_the_one_that_has_the_label_and_no_sign_within_a_word(tmp_path, encoding):
    content, label, churned = ENCODINGS[encoding]
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode(encoding))
    assert read_names(path, contract(names=(label,))) == content.splitlines()[0].split(",")
    drafted = draft_contract(path, DraftOptions(label, churned))
    assert drafted.contract.source.encoding == encoding
    assert f"is read as {encoding}." in drafted.text


def test_an_encoding_can_be_given_and_is_kept_in_the_contract(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(foreign(("id", "plan", "spend", "churn"), ("базовый", "про"), "Yes", "No").encode("koi8-r"))
    drafted = draft_contract(path, DraftOptions("churn", "Yes", encoding="koi8-r"))
    assert drafted.contract.source.encoding == "koi8-r"
    assert "is read as" not in drafted.text
    assert set(read_table(path, drafted.contract)["plan"].to_pylist()) == {"базовый", "про"}
    for encoding, words in (("utf-8", "its bytes are not utf-8"), ("utf-88", "unknown encoding: utf-88")):
        with pytest.raises(SourceUnreadable, match=f"{words}; .*--encoding"):
            draft_contract(path, DraftOptions("churn", "Yes", encoding=encoding))


def test_what_was_guessed_is_a_question(tmp_path):
    (tmp_path / "a.csv").write_bytes(SAME["preamble"][1])
    (tmp_path / "a.xlsx").write_bytes(workbook(("Old", ROWS), ("Notes", DICTIONARY), ("New", ROWS)))
    assert (
        "QUESTION: the header is line 4: 'id', ..."
        in draft_contract(tmp_path / "a.csv", DraftOptions("churn", "Yes")).text
    )
    drafted = draft_contract(tmp_path / "a.xlsx", DraftOptions("churn", "Yes"))
    assert "QUESTION: Old, New have the label; 'Old' is read." in drafted.text
    assert drafted.contract.source.sheet == "Old"


OLD_WORKBOOK = (  # of Excel 97: a sheet of notes, then one of two customers
    b"ABzY8000000t4+>O=uHA6#izCG(R+HQd6N7N+?*h_ENogX`>d+siAuCA2exJ4UL<Uqz64{wdN=Yo)j;IUc6Mj_=6tw=0T|FK@fyQ"
    b"kDdet4{g>rFS{|(92(Hj%6`kddHZI*o!NPB-u}E<4wV)j_LcD)#^6B3@S>y6Ca8F=lOU+wFqCT59x8^74F#`<9NFQ*GyiM1@}cr~"
    b"84?eiFG&KQsGPzK;#pmbv=RGx4hf;=Fe;oBdlGl41klU#>Sj5`audt@-1j-ly==L`a+La(#0e}%<3oGQI6fu^xGg|Z;4yPPuw?{2"
    b"c%|a_%1u%2>%zWVI+0nQ4gJneEP^~2({wGD$dnK!7cSzv5dpqgd-X-cwzt<VK=vPvc6Sr|E$Ia2V4M*u5R33b89?rhXA4@sh!D=Y"
    b"z<GCkHebkI&~o_|#5fImt10(Lf&w9#(I^New1l44&ruwwQ^d;8Xu7JW&d=s_GLDZpfa6+Tsk=zTvp#hh&H%xN4B+Q|(Md9eF4jZ5"
    b"JAyRe%Dt~|Cz6xV(`=dJtY3XLY~{HdxT+XL4%Aw}eTP`?WO<FRx`p*VmSMVSss|@~Oy%G__qookgEY==#=GdYI(<9o#V?1R^cO!z"
    b"caXjmD_;sPy^k(nfEFl4e09uYSPY9hw-ug7ty-8_<Ri=8KQf9(2F<w}<^!+`tMIWJVp%;?tE296Om^duB2xbOg?6m5qb4`%8atY<"
    b"v20jlN9|0~nbTy8CTziMwQ(*>AI~m?lM-f|Vt1Hq*@P{b?Kas}&-l!-C9^%2x6#boHf-3iVZ(+E8|xXud^cC`R!;u#sJ@-L&Hp;9"
    b"R4VpwlK&Qmk)@+RpQQ(&Q=P-bmf~kKT*A7RSR=>!U#M`DM$cgyNuI}a%kfKJ7oz@t)=Uiky)D%0_?1@X`H#o{3HUrEQ2-VI00"
)


def test_a_workbook_of_excel_97_is_read(tmp_path):
    (tmp_path / "a.xls").write_bytes(gzip.decompress(base64.b85decode(OLD_WORKBOOK)))
    assert read_table(tmp_path / "a.xls", contract(("id", "spend", "churn"))).to_pylist() == [
        {"id": "C1", "spend": "1.5", "churn": "Yes"},
        {"id": "C2", "spend": "2", "churn": "No"},
    ]


NOT_READ = {
    "several tables": (
        "a.zip",
        archive(("a.csv", CSV), ("b.csv", CSV)),
        "has several tables: a.csv, b.csv; expected one",
    ),
    "no table": ("a.zip", archive(("a.pdf", b"x")), "has no table"),
    "no zip": ("a.zip", CSV, "is not a zip archive"),
    "no gz": ("a.csv.gz", CSV, "cannot be read as delimited text"),
    "half a gz": (
        "a.csv.gz",
        gzip.compress(os.urandom(9999).hex().encode())[:3000],
        "cannot be read as delimited text",
    ),
    "an unknown table in gz": ("a.sas.gz", b"", "ends in '.sas'"),
    "no sheet with the columns": ("a.xlsx", workbook(("One", DICTIONARY), ("Two", DICTIONARY)), "its sheets: One, Two"),
    "broken json": ("a.jsonl", b'{"id": 1}\n{"id": 2}\n{"id"\n', "after 2 records"),
    "json of values": ("a.json", b"[1, 2]", "is not JSON of records"),
    "half a character in json": ("a.json", b'[{"id": "x\\ud800"}]', "is not JSON of records"),
    "half a character in a name": ("a.json", b'[{"x\\ud800": "1"}]', "is not JSON of records"),
    "no json": ("a.json", b"hello", "is not JSON of records"),
    "empty json": ("a.json", b"", "has no record"),
    "a header alone": ("a.csv", b"id,plan,spend,churn", "has a header and no rows"),
    "a page of HTML": ("a.csv", b"<html><body><table>", "is a page of HTML, .*save it as .xlsx"),
    "a row cut short": ("a.csv", CSV + b"C099,Plus", "Expected 4 columns, got 2"),
    "a quote left open": ("a.csv", CSV + b'"C040,Plus,1,Yes', "Expected 4 columns, got 1"),
}


@pytest.mark.parametrize("case", NOT_READ)
def test_what_cannot_be_read_is_one_clear_line(tmp_path, case):
    name, content, words = NOT_READ[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        read_table(tmp_path / name, contract())
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match=words):
        draft_contract(tmp_path / name, DraftOptions("churn", "Yes"))


def test_a_label_in_no_sheet_names_the_sheets(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(workbook(("Customers", ROWS), ("Notes", DICTIONARY)))
    with pytest.raises(SheetNotFound, match="no sheet has column 'left'; its sheets: Customers, Notes"):
        draft_contract(tmp_path / "a.xlsx", DraftOptions("left", "Yes"))


@needs_cases
@pytest.mark.parametrize("name", ["sep_line.csv", "preamble.csv", "quoted_lines.csv", "gz.csv.gz", "zip.zip"])
def test_the_cases_are_the_table_of_old_mac_line_ends(name):
    known = contract(("churn",))
    expected = read_table(SMALL / "old_mac_line_ends.csv", known)
    assert expected.num_rows == 48
    assert read_table(SMALL / name, known).equals(expected)
