"""Where MLflow's runs lie: opening the store, making it on first use, or one sentence why not."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from convexp.errors import UserError
from convexp.tracking.garbage import importing

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECONDS_FOR_THE_LOCK = 120
POSSIBLE = (
    "possible: a database file (sqlite:///mlflow.db), a server (http://host:port), or tracking=none"
)


class Place(NamedTuple):
    """An open store of MLflow's, and the experiment in it to which runs are added.

    Args:
        client: of the store.
        uri: of the store, a path in it absolute.
        experiment_id: MLflow's.
    """

    client: MlflowClient
    uri: str
    experiment_id: str


@importing("mlflow")
def open_store(
    uri: str, experiment: str, *, shelter: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Place:
    """Open the store; make its database and the experiment if they do not exist.

    Args:
        uri: a SQLite file, another database or a server, as MLflow writes it.
        experiment: its name.
        shelter: within which no signal may interrupt (a schema half made is broken for ever).

    Raises:
        UserError: it cannot be opened; the sentence says why.
    """
    uri, database = absolute(uri)
    # MLflow reports each use to its makers unless told not to. What a student trains is nobody's
    # business, and without a network the attempt only costs time.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server's client would print a link at each run's end, to a page about language models.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with one_sentence(uri), _quiet():
        if database is None:
            with few_retries():
                return _open(uri, experiment, artifacts=None)
        # Jobs that start together on a fresh file would all migrate its schema, and die of it.
        with _locked(database), shelter():
            _check_sqlite(database)
            return _open(uri, experiment, artifacts=(database.parent / "mlruns").as_uri())


def absolute(uri: str) -> tuple[str, Path | None]:
    """The URI with an absolute path, and that path, if it names a SQLite file.

    A relative path would follow the working folder, and runs would be scattered over many stores.

    Raises:
        UserError: it names a plain folder, a database in memory, or a path that cannot be read.
    """
    scheme = urlsplit(uri).scheme
    if uri in ("databricks", "databricks-uc"):  # MLflow's names without a colon
        return uri, None
    if scheme in ("", "file") or len(scheme) == 1:  # one letter: a drive of Windows
        wrong = "is a plain folder, in which MLflow no longer keeps runs" if uri else "is empty"
        raise UserError(
            f"tracking.uri = '{uri}' {wrong}; {POSSIBLE} (the environment variable "
            "MLFLOW_TRACKING_URI sets it too)"
        )
    if not scheme.startswith("sqlite"):
        return uri, None
    # Not by urlsplit, which would take a '#' of the path for the beginning of something.
    dialect, _, path = uri.partition("://")
    path = path.removeprefix("/")
    if path in ("", ":memory:"):
        raise UserError(
            f"tracking.uri = '{uri}' is a database in memory, which ends with the process; "
            f"{POSSIBLE}"
        )
    file = Path(path).expanduser().absolute()
    if re.search(r"\?|%[0-9a-fA-F]{2}", str(file)):
        # MLflow makes one folder of such a path, and SQLAlchemy looks for another.
        raise UserError(
            f"tracking.uri = '{uri}' has a '?' or an escape such as '%20' in its path, "
            f"which is read differently by different libraries: '{file}' must do without"
        )
    return f"{dialect}:///{file.as_posix()}", file


def without_password(uri: str) -> str:
    """The URI as it may be shown: what stands between ``://`` and ``@`` left out."""
    return re.sub(r"://[^/@]*@", "://", uri)


@contextmanager
def one_sentence(uri: str) -> Iterator[None]:
    """Whatever MLflow, the database or the network raises inside, as one sentence.

    Raises:
        UserError: with that sentence.
    """
    # Known here at last: to import them at the top would be to import them without a run.
    with _quiet():
        from mlflow.exceptions import MlflowException
        from requests.exceptions import ConnectionError, Timeout
        from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError, OSError) as error:
        shown = without_password(uri)
        if any(isinstance(cause, (ConnectionError, Timeout)) for cause in _causes(error)):
            reason = "the server does not answer; start it, correct the address, or tracking=none"
        else:
            reason = " ".join(str(error).split())[:500]
        raise UserError(f"no run can be recorded in tracking.uri = '{shown}': {reason}") from error


@contextmanager
def few_retries() -> Iterator[None]:
    """Within, a server that does not answer is given up in seconds, not in MLflow's 4 minutes.

    That patience is right in the middle of a training, not before it and not after Ctrl-C. What
    the user has set in the environment stands.
    """
    impatient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    ours = {name: value for name, value in impatient.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _open(uri: str, experiment: str, artifacts: str | None) -> Place:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            # Where files lie is fixed here for ever, and MLflow would take the working folder.
            experiment_id = client.create_experiment(experiment, artifact_location=artifacts)
            return Place(client, uri, experiment_id)
        except MlflowException:
            found = client.get_experiment_by_name(experiment)
            if found is None:  # else another job was faster
                raise
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the experiment '{experiment}' is deleted in tracking.uri = '{without_password(uri)}';"
            f" possible: `mlflow experiments restore -x {found.experiment_id}`, or another "
            "tracking.experiment"
        )
    return Place(client, uri, str(found.experiment_id))


def _check_sqlite(database: Path) -> None:
    """Raise at once what MLflow would try ten times, for 100 s: the file cannot be opened."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA schema_version")
    finally:
        connection.close()


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=SECONDS_FOR_THE_LOCK):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, MLflow's remarks on making a database and its libraries' warnings are not shown.

    Three loggers only, and set back afterwards: the user's own are none of our business.
    """
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db", "urllib3")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
