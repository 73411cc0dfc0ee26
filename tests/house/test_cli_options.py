"""The command line is frozen and described: a new option is a visible line, and what is advertised exists."""

import re

import click
import pytest

from shoal.cli import entry

# A command as text names it: in a code span, behind a prompt, or at the start of a string. Nouns alone count too.
NAMED = re.compile(rf"(?:`|\$ |\"|^|next  )shoal ({'|'.join(entry.NOUNS)})(?: ([a-z]+)\b)?", re.MULTILINE)


def _commands():
    context = click.Context(entry.root, info_name="shoal")
    for noun in entry.root.list_commands(context):
        command = entry.root.get_command(context, noun)
        if isinstance(command, click.Group):
            yield from ((f"{noun} {verb}", each) for verb, each in command.commands.items())
        else:
            yield noun, command


COMMANDS = dict(_commands())


def test_commands_and_options_are_the_agreed_ones(root):
    found = sorted(line for name, command in COMMANDS.items() for line in _lines(name, command))

    agreed = (root / "tests" / "house" / "cli_options.txt").read_text(encoding="utf-8").splitlines()
    assert found == agreed, "if it is meant: edit tests/house/cli_options.txt"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name):
    help = COMMANDS[name].help or ""

    assert help.partition("\n")[0].endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    silent = [
        parameter.name
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option) and not parameter.help
    ]

    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json(name):
    assert "--json" in _options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference(root, name):
    page = (root / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")

    assert re.search(rf"^\| `shoal {name}\b", page, re.MULTILINE)


def test_every_command_that_is_advertised_exists(root):
    pages = [root / "README.md", root / "CHANGELOG.md", *(root / "docs").rglob("*.md")]
    sources = (root / "src").rglob("*.py")

    unknown = [
        f"{path.relative_to(root)}: shoal {noun} {verb}"
        for path in [*pages, *sources]
        for noun, verb in NAMED.findall(path.read_text(encoding="utf-8"))
        if verb and noun not in COMMANDS and f"{noun} {verb}" not in COMMANDS
    ]

    assert unknown == []


def _lines(name, command):
    arguments = [
        each.make_metavar(click.Context(command)) for each in command.params if isinstance(each, click.Argument)
    ]
    return [" ".join([name, *arguments]), *(f"{name} {option}" for option in _options(command))]


def _options(command):
    options = [each for each in command.params if isinstance(each, click.Option)]
    return [spelling for option in options for spelling in (*option.opts, *option.secondary_opts)]
