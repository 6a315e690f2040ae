"""`churn events ...`: the log and the loop as topics of a Kafka broker, and labels from one."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import HomeOption, print_json, say, settings_of
from churn_assets.errors import SettingsError, did_you_mean
from churn_assets.settings import KafkaSettings

events_app = typer.Typer(
    help="Send predictions and alerts to a Kafka broker; take labels from it.", no_args_is_help=True
)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    return stop


def _need_client() -> None:
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise SettingsError(
            "the Kafka client is not installed, expected the extra 'events'; pip install 'churn-assets[events]'"
        ) from None


@events_app.command("relay", epilog="Example: [bold]CHURN_KAFKA_SERVERS=kafka:9092 churn events relay[/bold]")
def events_relay(
    metrics_port: Annotated[
        int, typer.Option(help="Port of the metrics, on 127.0.0.1; 0: none.", min=0, max=65_535)
    ] = 0,
    home: HomeOption = None,
) -> None:
    """Send the log of this home, and its drift, outliers and verdicts, to the broker; each once. Ends on SIGTERM."""
    settings = settings_of(home)
    _need_client()
    from churn_assets.events.broker import client_properties
    from churn_assets.events.metrics import serve_metrics
    from churn_assets.events.relay import Relay

    kafka = KafkaSettings.from_environ(os.environ)
    client_properties(kafka)
    settings.home.mkdir(parents=True, exist_ok=True)
    relay = Relay(settings, kafka, _stop_on_signals(), say)
    if metrics_port:
        serve_metrics(metrics_port, lambda: relay.status)
    say(f"relaying {settings.predlog_dir} to {kafka.servers} as {kafka.name} (stop with ctrl-c)")
    relay.run()


@events_app.command("schema", epilog="Example: [bold]churn events schema prediction[/bold]")
def events_schema(kind: Annotated[str, typer.Argument(help="prediction, drift, outliers, gate or feedback.")]) -> None:
    """Print the JSON Schema of a message."""
    from churn_assets.events.messages import KINDS, schema_of

    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS)
        raise SettingsError(f"there is no message '{kind[:40]}', {hint}expected one of: {', '.join(KINDS)}")
    print_json(schema_of(kind))


@events_app.command("consume", epilog="Example: [bold]CHURN_KAFKA_SERVERS=kafka:9092 churn events consume[/bold]")
def events_consume(home: HomeOption = None) -> None:
    """Take labels from the topic of feedback into the log, as the service takes them by HTTP. Ends on SIGTERM."""
    settings = settings_of(home)
    _need_client()
    from churn_assets.events.broker import client_properties
    from churn_assets.events.labels import LabelConsumer

    kafka = KafkaSettings.from_environ(os.environ)
    client_properties(kafka)
    settings.home.mkdir(parents=True, exist_ok=True)
    consumer = LabelConsumer(settings, kafka, _stop_on_signals(), say)
    say(f"taking labels from {kafka.feedback} into {settings.predlog_dir} (stop with ctrl-c)")
    consumer.run()
    counts = consumer.counts
    say(f"{counts.labels:,} labels are in the log; {counts.dead_letters:,} messages are dead letters")
