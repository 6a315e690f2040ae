"""`churn dashboard`: pages for the people who use the scores."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import ContractOption, HomeOption, out, settings_of
from churn_assets.settings import DashboardSettings

app = typer.Typer()


@app.command(epilog="Example: [bold]churn dashboard --port 3011[/bold]")
def dashboard(
    port: Annotated[int | None, typer.Option(help="Port. Default: CHURN_DASHBOARD_PORT, else 3001.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: CHURN_HOST, else 127.0.0.1.")] = None,
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Show what this home does, whom to call and how true the scores are, and decide about models."""
    settings = settings_of(home, contract)
    from churn_assets.dashboard.process import run_dashboard
    from churn_assets.serving.server.process import check_port

    for name, value in (("CHURN_DASHBOARD_PORT", port), ("CHURN_HOST", host)):
        if value is not None:
            os.environ[name] = str(value)
    own = DashboardSettings.from_environ(os.environ)
    check_port(own.host, own.port)
    scheme = "https" if own.tls_cert else "http"
    out.print(f"The dashboard of {settings.home}: {scheme}://localhost:{own.port} (stop with ctrl-c)")
    run_dashboard(settings, own)
