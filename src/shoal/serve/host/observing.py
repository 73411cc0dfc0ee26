"""Where lines and traces of requests go, as the user or the environment says it; checked before anything starts."""

import importlib.util
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from shoal.base import ConfigError, ServeError, UnsupportedError, traces_endpoint

_LOG = logging.getLogger(__name__)
STDERR = "-"
"""The access log that is no file: lines appear on this program's stderr."""
_TRACES_PATH = "/v1/traces"
_INSTALL = "pip install 'shoal[otel]'"


def find_traces(traces: str | None) -> str | None:
    """Return the whole address that traces go to, by what the user said or else the environment; None for no traces.

    Raises:
        ConfigError: what the user gave is no address.
        UnsupportedError: the user asked for traces, and OpenTelemetry's SDK and exporter are not installed.
    """
    found = traces_endpoint() if traces is None else _whole(traces)
    if found is None or _is_installed():
        return found
    if traces is not None:
        raise UnsupportedError(
            f"cannot send traces to {traces}: OpenTelemetry's SDK and exporter are not installed", next_step=_INSTALL
        )
    # Many clusters set the variables for all programs: that is no reason not to serve.
    _LOG.warning("the environment sends traces to %s, but %s was not done: there are none", found, _INSTALL)
    return None


def find_access_log(access_log: str | os.PathLike[str] | None) -> str | None:
    """Return the file for lines of requests as an absolute path, or `STDERR`; None for no lines.

    Raises:
        ServeError: the file cannot be written to.
    """
    if access_log is None or os.fspath(access_log) == STDERR:
        return None if access_log is None else STDERR
    path = Path(access_log).absolute()
    try:
        with path.open("ab"):
            """It can be written to."""
    except OSError as error:
        raise ServeError(
            f"cannot write lines of requests to {path}: {error.strerror or error}",
            next_step=f"give a file in a folder that can be written to, or {STDERR} for stderr",
        ) from error
    return str(path)


def _whole(traces: str) -> str:
    parts = urlsplit(traces)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"traces={traces!r} is no address, expected http://HOST:PORT of a collector that takes OTLP over HTTP",
            next_step="give an address such as http://127.0.0.1:4318",
        )
    # As the standard variable has it: the path is known.
    return traces if parts.path.endswith(_TRACES_PATH) else traces.rstrip("/") + _TRACES_PATH


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False
