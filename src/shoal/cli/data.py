"""`shoal data`: ingest, look at, change, split and repair datasets."""

import click

from shoal.cli import data_changing, data_ingesting, data_looking


@click.group()
def command() -> None:
    """Ingest, look at, change, split and repair datasets."""


for each in (*data_ingesting.COMMANDS, *data_looking.COMMANDS, *data_changing.COMMANDS):
    command.add_command(each)
