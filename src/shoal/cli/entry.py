"""The root command: nouns that load when they are called, and errors as people read them."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from shoal.base import ShoalError

# noun -> (module beside this file, help in one line): the help page must not import what it lists.
NOUNS = {
    "compress": ("compress", "Make a package smaller and faster, if it pays."),
    "config": ("config", "Show settings and where each came from."),
    "data": ("data", "Ingest, look at, split and check datasets."),
    "demo": ("demo", "Fashion-MNIST from raw files to a service that retrains."),
    "flow": ("flow", "Run a flow, or ask why a step would run."),
    "model": ("model", "Register, promote, roll back, score, and ask why."),
    "run": ("run", "List and show what ran."),
    "serve": ("serve", "Serve models over HTTP."),
    "train": ("train", "Train a task on a dataset."),
    "watch": ("watch", "Compare live traffic with training, and add labels."),
}


# Package -> the extra that brings it: an install without extras has every noun, and some need more.
EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "onnxruntime": "serve",
    "httptools": "serve",
    "uvloop": "serve",
    "prometheus_client": "serve",
    "aiohttp": "demo",
    "matplotlib": "demo",
    "scipy": "demo",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "obstore": "remote",
    "ray": "ray",
    "PIL": "images",
    "psycopg": "postgres",
    "datasets": "huggingface",
}


_REFUSALS = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG}


class LazyGroup(click.Group):
    """A group whose commands are imported when called for: `shoal --help` costs click and nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every noun, in order of the alphabet."""
        return sorted(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command of `cmd_name`; None makes click print the nearest names and exit with 2."""
        if cmd_name not in NOUNS:
            return None
        command: click.Command = importlib.import_module(f"shoal.cli.{NOUNS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the list of nouns from the table above, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(noun, text) for noun, (_, text) in sorted(NOUNS.items())])


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from shoal import __version__

    click.echo(f"shoal {__version__}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, callback=_print_version, expose_value=False, help="Print the version.")
def root() -> None:
    """From raw data to a model service that watches itself and retrains.

    Results go to standard output, progress to standard error. Every command takes --json.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # standalone_mode off: click would print our errors as tracebacks and an interrupt as "Aborted!".
        code = root.main(args=given, prog_name="shoal", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ShoalError as error:
        # A worker's or a step's own traceback travels as a note.
        _print_error(error.message, error.next_step, given, notes=getattr(error, "__notes__", ()))
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _print_error(f"this needs {error.name}, which is not installed", f"pip install 'shoal[{extra}]'", given)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader went away, as `| head` does: point stdout elsewhere so that the exit does not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # The system's own refusals name a file; one that does not is a defect of ours and keeps its traceback.
        if error.filename is None or error.errno not in _REFUSALS:
            raise
        _print_error(
            f"cannot use {error.filename}: {error.strerror}", "check the path and who may read and write it", given
        )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(message: str, next_step: str, given: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Say it to people, and, where `--json` was asked for, to the program that reads standard output."""
    if "--json" in given:
        from shoal.base import json  # the help page must not pay for it

        more = {"detail": "\n\n".join(notes)} if notes else {}
        click.echo(json.pretty({"error": message, "next": next_step, **more}))
    click.echo(f"error  {message}", err=True)
    click.echo(f"next   {next_step}", err=True)
    for note in notes:
        click.echo(f"\n{note}", err=True)
