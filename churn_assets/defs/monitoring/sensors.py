"""The sensor that reports on a window as soon as it is complete; `daily_monitoring` does the rest."""

import datetime as dt

import dagster as dg

from churn_assets.defs.jobs import monitor
from churn_assets.errors import ChurnError
from churn_assets.settings import Settings


def window_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of this home's windows; a tick reads one small file that the ingest writes."""

    @dg.sensor(
        name="monitor_on_full_window",
        job=monitor,
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs `monitor` when a window of predictions is complete.",
    )
    def monitor_on_full_window(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from churn_assets.monitoring.windows import full_window

        try:
            window = full_window(settings)
        except ChurnError as error:
            return dg.SkipReason(str(error))
        if window is None:
            return dg.SkipReason("no window is complete")
        # A failed run is repeated once an hour, not with every tick.
        return dg.RunRequest(run_key=f"window-{window}-{dt.datetime.now(dt.UTC):%Y%m%dT%H}")

    return monitor_on_full_window
