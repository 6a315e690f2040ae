"""Reaching MLflow: quietly, within seconds, and with everything it writes below one home."""

from __future__ import annotations

import os
import sqlite3
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from churn_assets.errors import TrackingUnavailable, without_user_info
from churn_assets.settings import QUIET_ENVIRONMENT, Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow asks seven times, two minutes each, before it gives up on a server; a training must not wait for that.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_PROBE_S = 3.0


def connect(uri: str) -> MlflowClient:
    """A client of the tracking store and registry at `uri` (sqlite:///... or http(s)://...).

    The folder of an sqlite store is made if needed. Raises TrackingUnavailable if a server does not
    answer within a few seconds or a store cannot be opened.
    """
    _set_environment(uri)
    if urlsplit(uri).scheme in ("http", "https"):
        _probe(uri)
    with quiet(), _installed(uri):
        import mlflow
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError  # making or migrating a store is not wrapped by MLflow

    try:
        if (store := store_path(uri)) is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
        with quiet():
            return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise unavailable(uri, error) from None


@contextmanager
def _installed(uri: str) -> Iterator[None]:
    """The image of the dashboard has no MLflow; where there is one, the alias follows the pointer later."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise TrackingUnavailable(
            f"MLflow at {without_user_info(uri)} is not told: {error.name} is not installed here, expected the "
            "pipeline to tell it; its next training or gate does"
        ) from None


def _set_environment(uri: str) -> None:
    environment = {} if Settings.from_environ(os.environ).telemetry else QUIET_ENVIRONMENT
    for name, value in {**_MLFLOW_ENVIRONMENT, **environment}.items():  # read by MLflow when it is imported
        os.environ.setdefault(name, value)
    if without_user_info(uri) != uri:  # MLflow prints the address of a run, password and all
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


@contextmanager
def calls(uri: str) -> Iterator[MlflowClient]:
    """A client as from `connect`, for calls whose failures become TrackingUnavailable."""
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        yield client
    except (MlflowException, OSError, sqlite3.Error) as error:
        raise unavailable(uri, error) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress MLflow's own warnings and progress messages."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def store_path(uri: str) -> Path | None:
    """The database file of an sqlite store; None for any other store."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)) if uri.startswith(prefix) else None


def unavailable(uri: str, error: BaseException) -> TrackingUnavailable:
    """The one-line error for a store that does not answer. To be raised `from None`: Dagster stores causes as text,
    and those of MLflow and of database drivers have the password."""
    reason = without_user_info(" ".join(str(error).split()), uri)[:200]
    return TrackingUnavailable(f"MLflow at {uri} does not answer ({reason}); start it or set CHURN_MLFLOW_URI")


def _probe(uri: str) -> None:
    """Request the health of a server, so that an absent one costs seconds at most."""
    parts = urlsplit(uri)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # urllib takes user info for the host
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_PROBE_S):
            return
    except urllib.error.HTTPError:
        return  # a server answers; the first call shows whether it is MLflow
    except (OSError, ValueError) as error:
        raise unavailable(uri, error) from None
