"""The process of `churn dashboard`: uvicorn with the application of one home."""

from __future__ import annotations

import os
from collections.abc import Mapping

from churn_assets.access.keyring import check_address
from churn_assets.dashboard.app import Dashboard
from churn_assets.dashboard.follower import LogFollower
from churn_assets.dashboard.sources import Sources
from churn_assets.settings import DashboardSettings, Settings

RISK = "read every customer's score and move the champion"


def run_dashboard(settings: Settings, dashboard: DashboardSettings, environ: Mapping[str, str] = os.environ) -> None:
    """Answer until a signal ends the process. Raises SettingsError if others would reach it and need no key."""
    import uvicorn

    check_address(dashboard.host, dashboard, "dashboard", RISK, "view")
    sources = Sources(settings, dashboard, environ)
    LogFollower(sources).start()
    uvicorn.run(
        Dashboard(sources).app,
        host=dashboard.host,
        port=dashboard.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
        ssl_certfile=dashboard.tls_cert or None,
        ssl_keyfile=dashboard.tls_key or None,
    )
