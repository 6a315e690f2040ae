"""The models of a home: each version with its figures, the release that runs, and what happened to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.dashboard.pages.models.release import ReleaseState, draw_release, read_release
from churn_assets.dashboard.pages.models.versions import Known, Model, describe_model
from churn_assets.dashboard.sources import Sources, attempt
from churn_assets.html.charts import Chart
from churn_assets.promotion.status import Event, read_events


@dataclass(frozen=True)
class Models:
    """The page: the release, every version, the newest training first, what happened to them, the newest first, and
    the versions that an A/B may have now."""

    champion: str
    release: ReleaseState | None
    models: tuple[Model, ...]
    may_compete: tuple[str, ...]
    history: tuple[Event, ...]
    problems: tuple[str, ...]


def read_models(sources: Sources, parameters: Mapping[str, str]) -> Models:
    """Every version of this home."""
    problems = list[str]()
    known = Known.of(sources, problems)
    models = [describe_model(sources, known, version) for version in known.versions()]
    models.sort(key=lambda model: (model.role == "champion", model.trained_at), reverse=True)
    events = attempt(problems, lambda: read_events(sources.settings)) or []
    release = read_release(sources, problems) if known.champion else None
    may_compete = tuple(model.version for model in models if "ab" in known.actions(model.version))
    return Models(
        champion=known.champion,
        release=release,
        models=tuple(models),
        may_compete=may_compete,
        history=tuple(reversed(events)),
        problems=tuple(dict.fromkeys(problems)),
    )


def draw_models(page: Models) -> dict[str, Chart]:
    """The charts of the release."""
    return draw_release(page.release) if page.release else {}
