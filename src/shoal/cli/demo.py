"""`shoal demo`: the whole story on real data, in one command."""

import importlib.util
from pathlib import Path

import click

from shoal.base import UnsupportedError
from shoal.cli.output import json_option

# Asked for before anything runs: some are first used when minutes of work are done.
NEEDED = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "httptools",
    "uvloop",
    "prometheus_client",
    "aiohttp",
    "matplotlib",
    "scipy",
)


@click.command()
@click.option("--data", "folder", type=click.Path(path_type=Path), help="Folder with the four Fashion-MNIST files.")
@click.option("--pause", is_flag=True, help="Stop when the service runs, and let you kill its processes under traffic.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the service; 0 takes a free one.")
@json_option
def command(folder: Path | None, pause: bool, port: int, as_json: bool) -> None:
    """Take Fashion-MNIST from raw files to a served, watched, retrained model.

    Writes into .shoal of this folder; the second run reuses what the first one built.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UnsupportedError(
            f"cannot run the demo: {', '.join(missing)} not installed", next_step="pip install 'shoal[demo]'"
        )
    from shoal.demo import run_demo

    run_demo(folder=folder, pause=pause, port=port, as_json=as_json)
