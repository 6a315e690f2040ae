"""A scrape of a home, read back by Prometheus' own parser."""

from __future__ import annotations

import datetime as dt

from prometheus_client.parser import text_string_to_metric_families

from churn_assets.exporter.collector import HomeCollector, exposition
from churn_assets.settings import Settings

NOW = dt.datetime(2026, 11, 26, 12, 0, tzinfo=dt.UTC)  # the day on which the home of the tests has answered

Labels = tuple[tuple[str, str], ...]


def scrape(settings: Settings, environ: dict[str, str] | None = None, now: dt.datetime = NOW) -> Scrape:
    return Scrape.of(exposition(HomeCollector(settings, environ or {}, lambda: now))[0].decode())


class Scrape(dict[tuple[str, Labels], float]):
    """Values by name and sorted labels."""

    @classmethod
    def of(cls, text: str) -> Scrape:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        scrape = cls({(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples})
        assert len(scrape) == len(samples), "a series stands there twice"
        return scrape

    def value(self, name: str, **labels: str) -> float:
        return self[name, tuple(sorted(labels.items()))]

    def values(self, name: str, label: str) -> dict[str, float]:  # type: ignore[override]
        """Values of a metric by one of its labels."""
        return {dict(labels)[label]: value for (known, labels), value in self.items() if known == name}

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self}
