"""When windows are judged: as soon as the ingest has filled one; `daily_monitoring` looks at all else."""

import datetime as dt

import dagster as dg

from churn_assets.defs.jobs import monitor
from churn_assets.errors import ChurnError
from churn_assets.settings import Settings


def window_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of this home's windows; it reads one small file that the ingest writes."""

    @dg.sensor(
        name="monitor_on_full_window",
        job=monitor,
        minimum_interval_seconds=settings.sensor_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Judges a window of predictions once it has its customers.",
    )
    def monitor_on_full_window(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from churn_assets.monitoring.windows.windows import full_window

        try:
            window = full_window(settings)
        except ChurnError as error:
            return dg.SkipReason(str(error))
        if window is None:
            return dg.SkipReason("no window is full")
        # A run that failed is tried again within the hour, not with every tick.
        return dg.RunRequest(run_key=f"window-{window}-{dt.datetime.now(dt.UTC):%Y%m%dT%H}")

    return monitor_on_full_window
