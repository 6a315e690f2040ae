"""`churn init | status | serve | ui | dashboard | metrics`: a project, what a home holds, and the servers."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from churn_assets.cli.alerts import read_open_alerts
from churn_assets.cli.terminal.console import (
    FAILURE,
    ContractOption,
    HomeOption,
    out,
    print_error,
    print_json,
    say,
    settings_of,
)
from churn_assets.errors import HomeBusy, SettingsError
from churn_assets.settings import STARTER, DashboardSettings, MetricsSettings, ServingSettings, Settings, project_file
from churn_assets.storage.files import remove_leftovers
from churn_assets.storage.links import link_home
from churn_assets.storage.lock import file_lock
from churn_assets.structured_log import copy_as_json, log_event, make_logger

PACKAGE_PARENT = STARTER.parent.parent
_STOP_S = 5.0  # from SIGTERM to SIGKILL

app = typer.Typer()


@app.command(epilog="Example: [bold]churn init churn-project[/bold]")
def init(folder: Annotated[Path, typer.Argument(help="Where to; made if it is missing.")]) -> None:
    """Write a project to start from: contracts, the files of Dagster, a Makefile, a folder for customer tables."""
    from churn_assets.starter import write_project

    files = write_project(folder)
    say(
        f"{folder}: {len(files)} files. Next:\n"
        f"  cd {folder}\n"
        "  churn run      from a customer table in data/raw/, or generated customers, to the call list\n"
        "  churn serve    answer requests with the model, on port 3000\n"
        "  churn ui       the graph in Dagster, on port 3002"
    )


@app.command(epilog="Example: [bold]churn status --json | jq .metrics.test_pr_auc[/bold]")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False, home: HomeOption = None
) -> None:
    """What this home holds: the champion and its figures, open alerts, paths of files."""
    settings = settings_of(home)
    from datetime import UTC, datetime

    from churn_assets.alerting.watchdog import check_loop
    from churn_assets.cli.terminal.render import show_alerts, show_status
    from churn_assets.events.status import describe_relay, read_relay_status
    from churn_assets.promotion.service import PromotionService
    from churn_assets.promotion.status import read_status

    if os.access(settings.home, os.W_OK):  # a home that can only be read is shown as it is
        PromotionService.of(settings).recover()
    status, alerts = read_status(settings), read_open_alerts(settings)
    loop, relay = check_loop(settings, datetime.now(UTC)), read_relay_status(settings)
    if as_json:
        shown = None if alerts is None else [alert.to_json() for alert in alerts]
        events = None if relay is None else relay.to_json()
        print_json({**status.to_json(), "alerts": shown, "loop": [vars(check) for check in loop], "events": events})
    else:
        show_status(status)
        if relay is not None:
            say(describe_relay(relay, datetime.now(UTC)))
        for check in loop:
            if check.status == "overdue":
                say(f"The loop is stuck: {check.name}: {check.message}; {check.remedy}")
        if alerts is not None:
            show_alerts(alerts)


@app.command(epilog="Example: [bold]churn doctor --loop || systemctl restart churn-daemon[/bold]")
def doctor(
    loop: Annotated[bool, typer.Option("--loop", help="The loop alone: a probe that takes half a second.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """What of this deployment is missing or wrong: versions, settings, folders, permissions, clock, disk, keys, ports,
    champion, databases, log, broker, loop.

    A line for each, with what is expected and what to do, and exit code 1 if one is wrong or cannot be judged. Those of
    the loop are whether daemon, ingest, monitoring, retraining and gate do their work, without asking Dagster.
    """
    settings = settings_of(home)
    from datetime import UTC, datetime

    from churn_assets.alerting.watchdog import LoopCheck, check_loop
    from churn_assets.doctor import Check, Deployment, check_deployment

    now = datetime.now(UTC)
    checks: Sequence[LoopCheck | Check]
    checks = check_loop(settings, now) if loop else check_deployment(Deployment(settings, os.environ, now))
    if as_json:
        print_json([vars(check) for check in checks])
    for check in checks if not as_json else ():
        say(check.line)
    if any(check.status != "ok" for check in checks):
        raise typer.Exit(FAILURE)


@app.command(epilog="Example: [bold]churn ui --port 3012[/bold]")
def ui(
    port: Annotated[int, typer.Option(help="Port of the web page.", min=1, max=65_535)] = 3002,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    headless: Annotated[bool, typer.Option("--headless", help="The daemon alone, without the web page.")] = False,
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Dagster's UI on the runs, assets, schedules and sensors of this home, and the daemon that starts its runs."""
    settings = settings_of(home, contract)
    from churn_assets.defs.run import prepare_home

    def busy(holder: str) -> HomeBusy:
        return HomeBusy(
            f"{holder} runs `churn ui` on {settings.home} already, expected at most one in a home; "
            "use or end that one, or name another home: --home"
        )

    from churn_assets.serving.server.process import check_port

    prepare_home(settings)
    with file_lock(settings.home / ".ui.lock", busy=busy) as lock:
        remove_leftovers(settings.home)
        os.environ.setdefault("CHURN_EXECUTOR", "forkserver")
        workspace = str(project_file(settings.root, "workspace.yaml"))
        if headless:
            _announce(settings, f"Dagster's daemon on {settings.home} (ready in about 10 s, stop with ctrl-c)")
            command = ["churn_assets.defs.daemon", workspace]
        else:
            check_port(host, port)
            _announce(
                settings,
                f"Dagster's UI on {settings.home}: http://{host}:{port} (ready in about 20 s, stop with ctrl-c)",
            )
            command = ["dagster", "dev", "-w", workspace, "-h", host, "-p", str(port)]
            if settings.log_format == "json":
                command += ["--log-format", "json"]
        code = _supervise([sys.executable, "-m", *command], lock, as_json=settings.log_format == "json")
    raise typer.Exit(code)


@app.command(epilog="Example: [bold]churn serve --port 3010 --workers 2[/bold]")
def serve(
    port: Annotated[int | None, typer.Option(help="Port. Default: CHURN_PORT, else 3000.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: CHURN_HOST, else 127.0.0.1.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: CHURN_WORKERS, else 1.")] = None,
    home: HomeOption = None,
) -> None:
    """Answer requests with the champion of this home, in BentoML."""
    settings = settings_of(home)
    from churn_assets.access.keyring import check_address
    from churn_assets.serving.server.process import SERVICE, check_grpc_port, check_port

    _into_environ(CHURN_PORT=port, CHURN_HOST=host, CHURN_WORKERS=workers)
    serving = ServingSettings.from_environ(os.environ)
    check_port(serving.host, serving.port)
    check_grpc_port(serving.host, serving.port, serving.grpc_port)
    check_address(serving.host, serving)
    try:
        written = settings.segments_dir if serving.instance else settings.home
        written.mkdir(parents=True, exist_ok=True)
        if serving.log and not os.access(written, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        link_home(settings)
        folder = _isolate_service(settings, serving)
    except OSError as error:
        raise SettingsError(
            f"CHURN_HOME is {settings.home}, which cannot be written ({error.strerror}), expected room for the "
            f"prediction log in {written}; free the disk or correct its permissions, or answer without a log: "
            "CHURN_LOG=0"
        ) from error
    scheme = "https" if serving.tls_cert else "http"
    out.print(f"{scheme}://localhost:{serving.port} answers in some five seconds (stop with ctrl-c)")
    command = [sys.executable, "-P", "-m", "bentoml", "serve", SERVICE, "--working-dir", str(folder)]
    os.execv(sys.executable, command)


def _isolate_service(settings: Settings, serving: ServingSettings) -> Path:
    """The folder in which the service runs: nothing is imported from the working directory, and no other service, which
    would clear its metrics, shares it. Its variables have absolute paths from here on."""
    environ = os.environ
    folder = Path(environ.get("BENTOML_HOME") or settings.bento_home / f"service-{serving.port}").absolute()
    for name in ("bentos", "models", "envs", "tmp"):  # BentoML makes them, and fails in a traceback
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths = {"CHURN_ROOT": settings.root, "CHURN_HOME": settings.home}
    for name in ("CHURN_BUNDLE", "CHURN_TLS_CERT", "CHURN_TLS_KEY"):
        if environ.get(name):
            paths[name] = Path(environ[name])
    environ.update({name: str(path.absolute()) for name, path in paths.items()})
    environ.update(settings.library_environ())
    environ.update({"BENTOML_HOME": str(folder), "PYTHONSAFEPATH": "1"})
    if (PACKAGE_PARENT / "pyproject.toml").is_file():  # a checkout need not be installed
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), environ.get("PYTHONPATH")]))
    return folder


def _into_environ(**options: str | int | None) -> None:
    """Options that were given, in place of the settings with these names: a server's processes read those."""
    os.environ.update({name: str(value) for name, value in options.items() if value is not None})


def _announce(settings: Settings, text: str) -> None:
    """Say what starts: on stdout, or as a line of the log."""
    if settings.log_format == "json":
        log_event(make_logger("INFO"), logging.INFO, text)
    else:
        out.print(text)


def _supervise(command: Sequence[str], lock: int, as_json: bool) -> int:
    """Run `command` in a process group of its own until it ends, or a signal ends it; the exit code.

    The whole group gets SIGINT and, after 5 s, SIGKILL, so that no process of it remains. The command keeps `lock`,
    an open lock file, and its number stands in it: if this process is killed, the lock still has a holder. With
    `as_json` all that it prints comes out as JSON lines on stderr.
    """
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # SIGINT, ignored in the background of a script, would be ignored by the command too; nohup is respected.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: received.append(number))
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if as_json else {}
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock], **streams)
    if child.stdout is not None:
        Thread(target=copy_as_json, args=(child.stdout, child.pid, sys.stderr), daemon=True).start()
    os.ftruncate(lock, os.pwrite(lock, str(child.pid).encode(), 0))
    while child.poll() is None and not received:
        time.sleep(0.2)  # Popen.wait would not end on a signal that is only noted
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.killpg(child.pid, signal.SIGINT)
        end = time.monotonic() + _STOP_S
        while time.monotonic() < end:
            child.poll()
            os.killpg(child.pid, 0)
            time.sleep(0.1)  # a process group cannot be waited for
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if not received:
        print_error(f"Dagster ended with {child.returncode}, expected it to go on; its lines above say why")
    return 0 if received else FAILURE


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

    _into_environ(CHURN_DASHBOARD_PORT=port, CHURN_HOST=host)
    own = DashboardSettings.from_environ(os.environ)
    check_port(own.host, own.port)
    scheme = "https" if own.tls_cert else "http"
    _announce(settings, f"The dashboard of {settings.home}: {scheme}://localhost:{own.port} (stop with ctrl-c)")
    run_dashboard(settings, own)


@app.command(epilog="Example: [bold]churn metrics --once > /var/lib/node_exporter/churn.prom[/bold]")
def metrics(
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
    port: Annotated[int | None, typer.Option(help="Port. Default: CHURN_METRICS_PORT, else 3005.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: CHURN_HOST, else 127.0.0.1.")] = None,
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Tell Prometheus what the loop does: drift, windows, labels, decisions, releases, alerts, the ingest."""
    settings = settings_of(home, contract)
    from churn_assets.exporter.collector import HomeCollector, exposition
    from churn_assets.exporter.process import run_exporter
    from churn_assets.serving.server.process import check_port

    if once:
        typer.echo(exposition(HomeCollector(settings, os.environ))[0], nl=False)
        return
    _into_environ(CHURN_METRICS_PORT=port, CHURN_HOST=host)
    own = MetricsSettings.from_environ(os.environ)
    check_port(own.host, own.port)
    scheme = "https" if own.tls_cert else "http"
    out.print(f"Metrics of {settings.home}: {scheme}://localhost:{own.port}/metrics (stop with ctrl-c)")
    run_exporter(settings, own)
