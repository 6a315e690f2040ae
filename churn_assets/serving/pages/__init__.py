"""The pages for people: a form for one customer, and Swagger. Nothing is fetched from elsewhere.

Jinja2 is imported when a page is asked for (`html.templating`), so that a worker that only predicts does not carry it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from churn_assets.contract.model import Column, Kind, Role
from churn_assets.evaluation.metrics import shortage_in
from churn_assets.html.templating import render
from churn_assets.serving.pages.typical_customer import Value, median_customer
from churn_assets.serving.routing.models import ServedModel

_INDEX = "serving/pages/templates/index.html.j2"
_SWAGGER = "serving/pages/templates/swagger.html.j2"


@dataclass(frozen=True)
class FormField:
    """An entry of the form; `optional` says what an empty one sends: null, nothing ("left out"), or "" for an error."""

    name: str
    kind: str
    description: str
    value: str
    options: tuple[str, ...] | None = None
    optional: str = ""


def page_headers(nonce: str) -> dict[str, str]:
    """Headers of a page: it loads nothing from elsewhere, runs only scripts with this nonce, and is in no frame."""
    policy = (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return {"content-security-policy": policy, "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


def index_page(model: ServedModel | None, missing: str, nonce: str, dashboard: str = "") -> str:
    """The page as HTML; without a model it says how to make one, and why there is none (`missing`). `dashboard` is the
    address of the dashboard, "" for no link."""
    if model is None:
        return render(_INDEX, title="churn", model=None, missing=missing, nonce=nonce, dashboard=dashboard)
    customer = median_customer(model)
    columns = (model.contract.key, *model.contract.scoring_columns)
    as_of = FormField(
        "as_of", "date", "day of these values; empty: today", str(customer.get("as_of", "")), None, "left out"
    )
    return render(
        _INDEX,
        title=model.contract.title,
        model=model,
        nonce=nonce,
        dashboard=dashboard,
        pr_auc=model.metrics.get("test_pr_auc"),
        shortage=shortage_in(model.metrics, "test"),
        fields=[*(_field(column, customer[column.name]) for column in columns), as_of],
        customer_json=json.dumps(customer).replace("'", "\\u0027"),  # it is quoted in a shell
    )


def swagger_page(nonce: str) -> str:
    """The page that tries every route."""
    return render(_SWAGGER, nonce=nonce)


def _field(column: Column, value: Value) -> FormField:
    optional = "left out" if column.role is Role.KEY else "null" if column.nullable else ""
    description = " ".join(filter(None, [column.doc, f"({column.unit})" if column.unit else ""]))
    options = None
    if column.kind in (Kind.BOOLEAN, Kind.CATEGORY):
        choices = ("true", "false") if column.kind is Kind.BOOLEAN else column.choices
        options = ("", *choices) if column.nullable else tuple(choices)
    text = str(value).lower() if column.kind is Kind.BOOLEAN else str(value)
    return FormField(column.name, str(column.kind), description, text, options, optional)
