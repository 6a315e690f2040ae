"""The call list: active customers scored by the champion, ranked by expected value."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.defs import metadata, plots
from churn_assets.defs.column_schema import lineage
from churn_assets.defs.io_manager import write_table
from churn_assets.defs.metadata import TableResult
from churn_assets.defs.policy import asset
from churn_assets.defs.resources import Project

if TYPE_CHECKING:
    from churn_assets.scoring.call_list import Segment
    from churn_assets.scoring.list_money import ListMoney
    from churn_assets.scoring.scorer import Scorer


class RiskListConfig(dg.Config):
    """`reasons_for`: how many customers at the top of the list get reasons, besides everyone to contact."""

    reasons_for: int = 1000


@asset(
    "scoring",
    {"arrow", "csv"},
    blocking={
        "every_active_customer_is_on_the_list_once": "As many rows as active customers, and no id twice.",
        "contacts_stay_within_capacity": "No more contacts than the contract's capacity, "
        "none below zero expected value.",
    },
    version="2",
    deps=["registered_model"],
)
def risk_list(project: Project, validated_customers: pa.Table, config: RiskListConfig) -> TableResult:
    """Active customers by the expected value of contacting them, the highest first, with reasons; as CSV too. The calls
    alone are a list for people, as CSV and workbook."""
    from churn_assets.data.customers import table_rows
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.scoring.bundle import load_bundle
    from churn_assets.scoring.call_list import by_segment, call_list, segment_table
    from churn_assets.scoring.list_money import describe_list_money
    from churn_assets.scoring.prices import prices
    from churn_assets.scoring.scorer import BAND_NAMES

    contract, settings = project.contract, project.settings
    champion = require_champion(settings.home)
    scorer = load_bundle(champion.path(settings.home), contract)
    customers = table_rows(validated_customers)
    active = customers.filter(pc.equal(customers["churned"], 0))
    as_of = validated_customers.schema.metadata[b"churn_as_of"].decode()
    probability = scorer.score_table(active, as_of).probability
    worth = prices(contract, active, as_of)
    table = call_list(scorer, active[contract.key.name], probability, as_of, worth)
    table, method = add_reasons(scorer, active, table, config.reasons_for)
    table = table.replace_schema_metadata({**table.schema.metadata, **validated_customers.schema.metadata})
    segments = by_segment(contract, active, probability, scorer.band(probability), worth)
    write_table(segment_table(segments), settings.reports_dir / "segments.csv")
    csv = write_table(table, settings.reports_dir / "risk_list.csv")
    money = write_calls(project, scorer, active, table, left=customers.num_rows - active.num_rows)
    distinct = pc.count_distinct(table["customer_id"], mode="all").as_py()
    contacted = table.filter(table["contact"])
    bands = {band: pc.sum(pc.equal(table["risk_band"], band)).as_py() or 0 for band in BAND_NAMES}
    band_plot = plots.customers_by(bands, "active customers by risk band")
    allowed = scorer.value.capacity if scorer.value.capacity is not None else table.num_rows
    yield dg.MaterializeResult(
        value=table,
        metadata={
            **metadata.table_facts(contract.fingerprint, table),
            "dagster/column_lineage": lineage(contract, "risk_list"),
            "csv": dg.MetadataValue.path(str(csv)),
            "model_version": champion.version,
            "call_list": dg.MetadataValue.path(str(settings.reports_dir / "call_list.xlsx")),
            "contacts": money.contacts,
            "expected_value_of_contacts": money.profit,
            "money": " ".join(describe_list_money(money)),
            "reasons": method,
            "expected_loss_by_segment": metadata.table(dataclasses.asdict(segment) for segment in segments),
            "loss_by_segment": plots.image(segment_plot(segments), "expected loss by segment"),
            "first_ten": metadata.table(table.slice(0, 10).to_pylist()),
            "risk_bands": plots.image(band_plot, "customers by risk band"),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=table.num_rows == active.num_rows == distinct,
                check_name="every_active_customer_is_on_the_list_once",
                metadata={"active": active.num_rows, "listed": table.num_rows, "distinct_ids": distinct},
            ),
            dg.AssetCheckResult(
                passed=contacted.num_rows <= allowed and not pc.any(pc.less(contacted["expected_value"], 0.0)).as_py(),
                check_name="contacts_stay_within_capacity",
                metadata={"contacts": contacted.num_rows, "capacity": allowed},
            ),
        ],
    )


def write_calls(project: Project, scorer: "Scorer", active: pa.Table, listed: pa.Table, left: int) -> "ListMoney":
    """Write the calls of a list of the `active` customers for people, as CSV and workbook; their money. `left` are
    marked as churned."""
    from churn_assets.scoring.call_list import calls_of
    from churn_assets.scoring.call_sheet import call_sheet, write_call_sheet
    from churn_assets.scoring.list_money import list_money

    contract, calls = project.contract, calls_of(listed)
    money = list_money(calls, scorer.value, scorer.discount, active.num_rows, left)
    rows = pc.index_in(calls["customer_id"], value_set=active[contract.key.name].cast(pa.string()))
    sheet = call_sheet(calls, active.take(rows), contract, money)
    for suffix in (".csv", ".xlsx"):
        write_call_sheet(sheet, project.settings.reports_dir / f"call_list{suffix}")
    return money


def add_reasons(scorer: "Scorer", active: pa.Table, listed: pa.Table, at_least: int) -> tuple[pa.Table, str]:
    """The list with reasons for all contacts and the first `at_least`, and the method that computed them."""
    from churn_assets.scoring.call_list import with_reasons
    from churn_assets.scoring.explain import Explainer

    if not scorer.background:
        return with_reasons(listed, []), "none: the champion's bundle was made before reasons; train and promote again"
    first = listed.slice(0, max(at_least, pc.sum(listed["contact"]).as_py() or 0))
    rows = pc.index_in(first["customer_id"], value_set=active[scorer.contract.key.name].cast(pa.string()))
    explainer = Explainer(scorer)
    as_of = first["as_of"][0].as_py() if first.num_rows else 0.0  # one snapshot for the whole list
    table = with_reasons(listed, explainer.explain_table(active.take(rows), as_of))
    method = "exact Shapley values" if explainer.exact else "Shapley values, estimated where a network takes part"
    return table, f"{first.num_rows} customers, {method}"


def segment_plot(segments: Sequence["Segment"]) -> str:
    """Bars of the expected loss of every segment but the risk bands, which repeat the ranking."""
    from churn_assets.scoring.call_list import RISK_BAND

    loss = {f"{s.column}: {s.segment}": round(s.expected_loss) for s in segments if s.column != RISK_BAND}
    return plots.counts(loss, "expected loss by segment", "value of the customers expected to be lost")
