"""`churn events ...`: the log and the loop as topics of a Kafka broker, and labels from one."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import HomeOption, print_json, say, settings_of
from churn_assets.errors import SettingsError, did_you_mean
from churn_assets.settings import KafkaSettings, MetricsSettings, Settings
from churn_assets.structured_log import log_event, make_logger

events_app = typer.Typer(
    help="Send predictions and alerts to a Kafka broker; take labels from it.", no_args_is_help=True
)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    return stop


def _kafka_settings() -> KafkaSettings:
    """The settings of a broker that can be used. Raises SettingsError."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise SettingsError(
            "the Kafka client is not installed, expected the extra 'events'; pip install 'churn-assets[events]'"
        ) from None
    from churn_assets.events.broker import client_properties

    kafka = KafkaSettings.from_environ(os.environ)
    client_properties(kafka)
    return kafka


def _teller(settings: Settings) -> Callable[[str], None]:
    """Where lines for people go: to stdout, or as JSON lines to stderr."""
    if settings.log_format != "json":
        return say
    logger = make_logger("INFO")
    return lambda line: log_event(logger, logging.INFO, line)


@events_app.command("relay", epilog="Example: [bold]churn events relay --home data/var[/bold]")
def events_relay(
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the metrics, 0 for none. Default: CHURN_RELAY_METRICS_PORT, else 3006.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Send the log of this home, and its drift, outliers and verdicts, to the broker; each once. Ends on SIGTERM."""
    settings = settings_of(home)
    kafka, tell = _kafka_settings(), _teller(settings)
    from churn_assets.events.metrics import RelayCollector
    from churn_assets.events.relay import Relay

    if metrics_port is not None:
        os.environ["CHURN_RELAY_METRICS_PORT"] = str(metrics_port)
    own = MetricsSettings.from_environ(os.environ, of_relay=True)
    settings.home.mkdir(parents=True, exist_ok=True)
    relay = Relay(settings, kafka, _stop_on_signals(), tell)
    if own.port:
        from churn_assets.exporter.process import serve_beside
        from churn_assets.serving.server.process import check_port

        check_port(own.host, own.port)
        serve_beside(settings, own, RelayCollector(lambda: relay.status))
    tell(f"relaying {settings.predlog_dir} to {kafka.servers} as {kafka.name} (stop with ctrl-c)")
    relay.run()
    sent = sum(relay.status.produced.values())
    tell(f"{sent:,} messages were sent in {relay.status.transactions:,} transactions")


@events_app.command("consume", epilog="Example: [bold]churn events consume --home data/var[/bold]")
def events_consume(home: HomeOption = None) -> None:
    """Take labels from the topic of feedback into the log, as the service takes them by HTTP. Ends on SIGTERM."""
    settings = settings_of(home)
    kafka, tell = _kafka_settings(), _teller(settings)
    from churn_assets.events.labels import LabelConsumer

    settings.home.mkdir(parents=True, exist_ok=True)
    consumer = LabelConsumer(settings, kafka, _stop_on_signals(), tell)
    tell(f"taking labels from {kafka.feedback} into {settings.predlog_dir} (stop with ctrl-c)")
    consumer.run()
    counts = consumer.counts
    tell(f"{counts.labels:,} labels are in the log; {counts.dead_letters:,} messages are dead letters")


@events_app.command("schema", epilog="Example: [bold]churn events schema prediction[/bold]")
def events_schema(kind: Annotated[str, typer.Argument(help="prediction, drift, outliers, gate or feedback.")]) -> None:
    """Print the JSON Schema of a message."""
    from churn_assets.events.messages import KINDS, schema_of

    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS)
        raise SettingsError(f"there is no message '{kind[:40]}', {hint}expected one of: {', '.join(KINDS)}")
    print_json(schema_of(kind))
