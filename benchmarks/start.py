"""What it costs to start: `shoal --help` beside a bare click program, and `import shoal` beside bare Python."""

import statistics
import sys
import tempfile
from pathlib import Path

from bars import bar, median_ratio, paired_seconds, report

BARE_CLICK = """
import click

@click.group()
def root(): "A bare click program."

@root.command()
def verb(): "A command."

root()
"""


def main() -> None:
    """Take every pair in turn and print the bars."""
    runs = 7 if "--quick" in sys.argv else 21
    shoal_command = str(Path(sys.executable).with_name("shoal"))
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE_CLICK)
        taken = paired_seconds(
            {
                "shoal --help": [shoal_command, "--help"],
                "bare click": [sys.executable, str(bare), "--help"],
                "import shoal": [sys.executable, "-c", "import shoal"],
                "python": [sys.executable, "-c", "pass"],
            },
            runs=runs,
        )
    import_ms = 1e3 * statistics.median(a - b for a, b in zip(taken["import shoal"], taken["python"], strict=True))
    help_ratio = median_ratio(taken["shoal --help"], taken["bare click"])
    milliseconds = {name: 1e3 * statistics.median(seconds) for name, seconds in taken.items()}
    report(
        "start",
        [
            bar(
                "shoal --help against a bare click program",
                help_ratio,
                "ratio",
                2.0,
                {"bare click ms": milliseconds["bare click"]},
            ),
            bar("import shoal beyond bare Python", import_ms, "ms", 100.0, {"python ms": milliseconds["python"]}),
        ],
        packages=["click"],
        command="make bench NAME=start",
    )


if __name__ == "__main__":
    main()
