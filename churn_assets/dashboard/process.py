"""The process of `churn dashboard`: uvicorn with the application of one home."""

from __future__ import annotations

import os
from collections.abc import Mapping

from churn_assets.access.keyring import check_address
from churn_assets.dashboard.app import LOGGER, Dashboard
from churn_assets.dashboard.follower import LogFollower
from churn_assets.dashboard.sources import Sources
from churn_assets.settings import DashboardSettings, Settings
from churn_assets.structured_log import make_logger

RISK = "read every customer's score and move the champion"


def run_dashboard(settings: Settings, dashboard: DashboardSettings, environ: Mapping[str, str] = os.environ) -> None:
    """Answer until a signal ends the process. Raises SettingsError if others would reach it and need no key."""
    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    check_address(dashboard.host, dashboard, "dashboard", RISK, "view")
    if settings.log_format == "json":
        make_logger("WARNING", "")  # of every library
        make_logger("INFO", LOGGER)
    sources = Sources(settings, dashboard, environ)
    LogFollower(sources).start()
    uvicorn.run(
        Dashboard(sources).app,
        host=dashboard.host,
        port=dashboard.port,
        log_level="warning",
        log_config=None if settings.log_format == "json" else LOGGING_CONFIG,
        access_log=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
        ssl_certfile=dashboard.tls_cert or None,
        ssl_keyfile=dashboard.tls_key or None,
    )
