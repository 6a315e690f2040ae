"""`churn init | status | serve | ui`: a project, what a home holds, and the two servers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from churn_assets.cli.alerts import read_open_alerts
from churn_assets.cli.console import ContractOption, HomeOption, out, plain, settings_of
from churn_assets.settings import project_file


def init(folder: Annotated[Path, typer.Argument(help="Where to; made if it is missing.")]) -> None:
    """Write a project to start from: contracts, the files of Dagster, a Makefile, a folder for customer tables."""
    from churn_assets.starter import write_project

    files = write_project(folder)
    out.print(
        plain(
            f"{folder}: {len(files)} files. Next:\n"
            f"  cd {folder}\n"
            "  churn run      from a customer table in data/raw/, or generated customers, to the call list\n"
            "  churn serve    answer requests with the model, on port 3000\n"
            "  churn ui       the graph in Dagster"
        ),
        soft_wrap=True,
    )


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False, home: HomeOption = None
) -> None:
    """What this home holds: the champion and its figures, open alerts, paths of files."""
    settings = settings_of(home)
    from churn_assets.cli.render import show_alerts, show_status
    from churn_assets.promotion.service import PromotionService
    from churn_assets.promotion.status import read_status

    PromotionService.of(settings).recover()
    status, alerts = read_status(settings), read_open_alerts(settings)
    if as_json:
        import json

        listed = None if alerts is None else [alert.to_json() for alert in alerts]
        typer.echo(json.dumps({**status.to_json(), "alerts": listed}, indent=2))
    else:
        show_status(status, out)
        if alerts is not None:
            show_alerts(alerts, out)


def ui(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Dagster's UI on the runs, assets, schedules and sensors of this home."""
    settings = settings_of(home, contract)
    from churn_assets.defs.run import prepare_home

    prepare_home(settings)
    os.environ.setdefault("CHURN_EXECUTOR", "forkserver")
    out.print(f"Dagster's UI on {settings.home}: http://{host}:{port} (ready in about 20 s, stop with ctrl-c)")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(project_file(settings.root, "workspace.yaml"))]
    os.execv(sys.executable, [*command, "-h", host, "-p", str(port)])


def serve(
    port: Annotated[int | None, typer.Option(help="Port. Default: CHURN_PORT, else 3000.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: CHURN_HOST, else every address.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: CHURN_WORKERS, else 1.")] = None,
    home: HomeOption = None,
) -> None:
    """Answer requests with the champion of this home, in BentoML."""
    settings = settings_of(home)
    for name, value in (("CHURN_PORT", port), ("CHURN_HOST", host), ("CHURN_WORKERS", workers)):
        if value is not None:
            os.environ[name] = str(value)
    from churn_assets.settings import ServingSettings

    serving = ServingSettings.from_environ(os.environ)
    settings.bento_home.mkdir(parents=True, exist_ok=True)
    os.environ.update({**settings.library_environ(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")})
    out.print(f"http://localhost:{serving.port} answers in some five seconds (stop with ctrl-c)")
    service = "churn_assets.serving.service:ChurnService"
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", service])


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command(epilog="Example: [bold]churn init churn-project[/bold]")(init)
    app.command(epilog="Example: [bold]churn status --json | jq .metrics.test_pr_auc[/bold]")(status)
    app.command(epilog="Example: [bold]churn ui --port 3001[/bold]")(ui)
    app.command(epilog="Example: [bold]churn serve --port 3001 --workers 2[/bold]")(serve)
