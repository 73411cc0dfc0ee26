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
_PARTS = {"ready", "models", "replicas", "queue", "problems"}


@click.group()
def command() -> None:
    """Serve models over HTTP."""


@command.command("run")
@click.argument("model")
@click.option("--replicas", type=click.IntRange(1), default=2, show_default=True, help="Processes that run the model.")
@click.option("--target-ms", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Latency to keep.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--log", "log_folder", type=click.Path(path_type=Path), help="Folder of the prediction logs.")
@click.option("--start-s", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Longest load.")
@json_option
def run_server(
    model: str,
    replicas: int,
    target_ms: float,
    host: str,
    port: int,
    log_folder: Path | None,
    start_s: float,
    as_json: bool,
) -> None:
    """Serve MODEL over HTTP until it is told to stop.

    MODEL is an .onnx file, a package's folder, or an address such as fashion@production, which follows the registry.
    Once it answers, it prints where; then it serves until Ctrl-C or SIGTERM, answers what is in, and ends. Where the
    secret API_KEY is set (SHOAL_SECRET_API_KEY), every request but health needs it.
    """
    shoal.serve.run(
        model,
        replicas=replicas,
        target_ms=target_ms,
        host=host,
        port=port,
        api_key=_key(),
        log_folder=log_folder,
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
            ("replica", f"{replica['rank']}  pid {replica['pid']}  {', '.join(replica['loaded'])}")
            for replica in found["replicas"]
        ),
        ("queue", f"{found['queue']['rows']} rows, wait {found['queue']['predicted_wait_ms']} ms"),
        *(("problem", json.encode(problem).decode()) for problem in found["problems"]),
    ]
    show(found, as_json=as_json, text=fields(lines))


def _print_start(server: "shoal.serve.Server", *, as_json: bool) -> None:
    pids = server.pids()
    facts = {"url": server.url, "model": server.name, **pids, "log": server.log_folder}
    lines = [
        ("serving", f"{server.name} at {server.url}/v2/models/{server.name}/infer"),
        ("front", f"pid {pids['front']}"),
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
