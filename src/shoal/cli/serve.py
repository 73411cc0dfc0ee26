"""`shoal serve`: models over HTTP."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

import shoal.serve
from shoal.base import ConfigError, InputError, NotFoundError, Secret, ServeError, UnavailableError, json, secret
from shoal.cli.output import fields, json_option, show

_WAIT_S = 5.0
_HERE = "127.0.0.1"
_PARTS = {"ready", "models", "replicas", "queue", "problems"}


class Replicas(click.ParamType[int | tuple[int, int]]):
    """How many replicas: a number, or `LEAST:MOST` for as many as the load asks for."""

    name = "replicas"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """The number or the pair; click's own error for anything else."""
        least, colon, most = value.partition(":")
        numbers = [int(part) for part in ([least, most] if colon else [least]) if part.isdecimal()]
        if len(numbers) != 1 + bool(colon) or numbers[-1] < max(1, numbers[0]):
            self.fail(f"{value!r} is neither a number from 1 nor LEAST:MOST, as in 1:4", param, ctx)
        return (numbers[0], numbers[1]) if colon else numbers[0]


@click.group()
def command() -> None:
    """Serve models over HTTP."""


@command.command("run")
@click.argument("model")
@click.option(
    "--replicas", type=Replicas(), default="2", show_default=True, help="Processes that run the model, or LEAST:MOST."
)
@click.option("--fronts", type=click.IntRange(1), default=1, show_default=True, help="Processes that share the port.")
@click.option("--target-ms", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Latency to keep.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Serve gRPC there too; 0 takes a free one.")
@click.option("--log", "log_folder", type=click.Path(path_type=Path), help="Folder of the prediction logs.")
@click.option(
    "--log-sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of requests to log.",
)
@click.option("--log-drop", multiple=True, metavar="NAME", help="Input or output never to log; may be a pattern.")
@click.option("--access-log", metavar="PATH", help="File for a line of JSON for each request; - for stderr.")
@click.option("--traces", metavar="URL", help="OTLP collector for traces, such as http://127.0.0.1:4318.")
@click.option(
    "--trace-sample",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of predictions to trace where the caller does not say.",
)
@click.option(
    "--most-wait-s", type=click.FloatRange(min=0.001), default=1.0, show_default=True, help="Refuse what waits longer."
)
@click.option(
    "--prediction-cache-bytes", type=click.IntRange(0), default=0, show_default=True, help="Keep answers; 0 for none."
)
@click.option("--runtime", default="local", show_default=True, help="Where replicas run: local, ray, ray://host:10001.")
@click.option("--start-s", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Longest load.")
@json_option
def run_server(
    model: str,
    replicas: int | tuple[int, int],
    fronts: int,
    target_ms: float,
    host: str,
    port: int,
    grpc_port: int | None,
    log_folder: Path | None,
    log_sample: float,
    log_drop: tuple[str, ...],
    access_log: str | None,
    traces: str | None,
    trace_sample: float,
    most_wait_s: float,
    prediction_cache_bytes: int,
    runtime: str,
    start_s: float,
    as_json: bool,
) -> None:
    """Serve MODEL over HTTP, and gRPC where a port for it is given, until it is told to stop.

    MODEL is an .onnx file, a package's folder, an address such as fashion@production, which follows the registry, a
    Python class as file.py:Class, or a folder of models, which are loaded and let go as their files come and go.
    Once it answers, it prints where; then it serves until Ctrl-C or SIGTERM, answers what is in, and ends. Where the
    secret API_KEY is set (SHOAL_SECRET_API_KEY), every request but health needs it.
    """
    shoal.serve.run(
        model,
        replicas=replicas,
        fronts=fronts,
        target_ms=target_ms,
        host=host,
        port=port,
        grpc_port=grpc_port,
        api_key=_key(),
        log_folder=log_folder,
        log_sample=log_sample,
        log_drop=log_drop,
        access_log=access_log,
        traces=traces,
        trace_sample=trace_sample,
        most_wait_s=most_wait_s,
        prediction_cache_bytes=prediction_cache_bytes,
        runtime=runtime,
        start_s=start_s,
        on_start=lambda server: _print_start(server, as_json=as_json),
    )


@command.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Of the server.")
@json_option
def status(url: str, as_json: bool) -> None:
    """Show what a running server serves, and by whom."""
    found = _ask_status(url)
    lines = [
        ("ready", found["ready"]),
        *(
            ("model", f"{model}@{version}  {share:.0%} of the traffic")
            for model, entry in found["models"].items()
            for version, share in entry["shares"].items()
        ),
        *(
            ("front", f"{front['rank']}  pid {front['pid']}  {front['connections']} connections")
            for front in found.get("fronts", ())
        ),
        *(
            ("replica", f"{replica['rank']}  pid {replica['pid']}{_place(replica)}  {', '.join(replica['loaded'])}")
            for replica in found["replicas"]
        ),
        *(
            ("batches", f"{model}@{version}  {_batches(told)}")
            for model, entry in found["models"].items()
            for version, told in entry["versions"].items()
        ),
        ("queue", f"{found['queue']['rows']} rows, wait {found['queue']['predicted_wait_ms']} ms"),
        *(("problem", json.encode(problem).decode()) for problem in found["problems"]),
    ]
    show(found, as_json=as_json, text=fields(lines))


def _place(replica: dict[str, Any]) -> str:
    return "" if replica.get("host", _HERE) == _HERE else f" on {replica['host']}"


def _batches(told: dict[str, Any]) -> str:
    batches, time_ms, cache = told["batches"], told["time_ms"], told["cache"]
    ends = ", ".join(f"{why.replace('_', ' ')} {count}" for why, count in batches["ended_by"].items() if count)
    hits = f"; {cache['hit_rate']:.0%} from the cache" if cache["hit_rate"] is not None else ""
    return (
        f"{batches['count']} of {batches['mean_rows']:g} rows ({ends or 'none yet'}); "
        f"ms: reading {time_ms['reading']}, queue {time_ms['queue']}, model {time_ms['model']} a batch, "
        f"writing {time_ms['writing']}, "
        f"whole {time_ms['whole']}{hits}"
    )


def _print_start(server: "shoal.serve.Server", *, as_json: bool) -> None:
    pids = server.pids()
    facts = {"url": server.url, "grpc_port": server.grpc_port, "model": server.name, **pids, "log": server.log_folder}
    lines = [
        ("serving", f"{server.name} at {server.url}/v2/models/{server.name}/infer"),
        *([("grpc", f"port {server.grpc_port}")] if server.grpc_port is not None else []),
        ("front", f"pid {', '.join(map(str, pids['fronts']))}"),
        ("replicas", f"pids {', '.join(map(str, pids['replicas']))}"),
        ("log", server.log_folder),
    ]
    show(facts, as_json=as_json, text=fields(lines), next_command=f"shoal serve status --url {server.url}")


def _key() -> Secret | None:
    try:
        return secret("API_KEY")
    except NotFoundError:
        return None


def _ask_status(url: str) -> Any:  # noqa: ANN401 - the server's JSON
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"cannot talk to {url!r}: expected http://HOST:PORT", next_step="copy what serve run printed")
    key = _key()
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_WAIT_S)
    try:
        connection.request("GET", "/status", headers={"X-API-Key": key.reveal()} if key else {})
        response = connection.getresponse()
        found = json.decode(response.read(), dict[str, Any])
    except (OSError, HTTPException, InputError) as error:
        raise UnavailableError(
            f"no shoal server answers at {url}: {error}", next_step="check the url, or start one: shoal serve run MODEL"
        ) from error
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise ServeError(
            str(found.get("error", response.reason)),
            next_step=str(found.get("next", "check the url")),
            status=response.status,
        )
    if missing := _PARTS - found.keys():
        raise ServeError(
            f"no shoal server answers at {url}: its status lacks {', '.join(sorted(missing))}",
            next_step="check the url",
        )
    return found
