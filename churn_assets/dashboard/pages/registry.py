"""The pages by their paths, with what each needs and shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from churn_assets.dashboard.pages.alerts import read_alerts
from churn_assets.dashboard.pages.calls import draw_calls, read_calls
from churn_assets.dashboard.pages.customer import draw_customer, read_customer
from churn_assets.dashboard.pages.models.compare import draw_comparison, read_comparison
from churn_assets.dashboard.pages.models.listing import draw_models, read_models
from churn_assets.dashboard.pages.models.model import draw_model, read_model
from churn_assets.dashboard.pages.monitoring.page import draw_monitoring, read_monitoring
from churn_assets.dashboard.pages.overview import draw_overview, read_overview
from churn_assets.dashboard.pages.performance import draw_performance, read_performance
from churn_assets.dashboard.pages.try_customer import draw_try, read_try
from churn_assets.dashboard.session import VIEW
from churn_assets.dashboard.sources import Sources
from churn_assets.html.charts import Chart


def _nothing(page: Any) -> dict[str, Chart]:
    return {}


@dataclass(frozen=True)
class Page:
    """A page: `read` makes its dataclass from the parameters of its path and query, `draw` its charts by name. `menu`
    is its name in the navigation, "" for a page that another one leads to. Whoever looks needs the `scope`."""

    path: str
    title: str
    template: str
    read: Callable[[Sources, Mapping[str, str]], Any]
    draw: Callable[[Any], dict[str, Chart]] = _nothing
    menu: str = ""
    scope: str = VIEW

    @property
    def needs_nothing(self) -> bool:
        """Whether the page can be read without parameters."""
        return bool(self.menu)

    @property
    def json_path(self) -> str:
        """Where the same dataclass is served as JSON."""
        return f"{'/overview' if self.path == '/' else self.path}.json"


PAGES = (
    Page("/", "Overview", "overview", read_overview, draw_overview, menu="Overview"),
    Page("/calls", "Call list", "calls", read_calls, draw_calls, menu="Call list"),
    Page("/customer", "Customer", "customer", read_customer, draw_customer),
    Page("/monitoring", "Monitoring", "monitoring", read_monitoring, draw_monitoring, menu="Monitoring"),
    Page("/performance", "Performance", "performance", read_performance, draw_performance, menu="Performance"),
    Page("/models", "Models", "models", read_models, draw_models, menu="Models"),
    Page("/compare", "Compare models", "compare", read_comparison, draw_comparison),
    Page("/models/{version}", "Model", "model", read_model, draw_model),
    Page("/try", "Try a customer", "try", read_try, draw_try, menu="Try"),
    Page("/alerts", "Alerts", "alerts", read_alerts, menu="Alerts"),
)
