"""Fuzz one target by coverage: `python tests/serve/fuzz/run.py TARGET [--seconds N | --runs N] [--keep FOLDER]`.

Needs atheris (`pip install atheris`). It ends at the first input that breaks a promise, which it writes into FOLDER.
Given the path of such a file in place of a limit, it runs that input alone: `run.py TARGET --input FILE`.
"""

import argparse
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="what was found: new inputs, and the one that breaks a promise")
    parser.add_argument("--input", type=Path, help="run this file alone")
    given = parser.parse_args()
    import atheris

    with atheris.instrument_imports(include=["shoal.serve", "targets", "email", "PIL.PngImagePlugin"]):
        import targets
    if given.target not in targets.TARGETS:
        sys.exit(f"there is no target {given.target}: expected one of {', '.join(targets.TARGETS)}")
    target = targets.TARGETS[given.target]
    if given.input is not None:
        target(given.input.read_bytes())
        return
    with tempfile.TemporaryDirectory() as scratch:
        keep = given.keep or Path(scratch, "kept")
        begin = Path(scratch, "seeds")
        for folder in (keep, begin):
            folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(targets.SEEDS[given.target]()):
            (begin / str(number)).write_bytes(seed)
        words = Path(scratch, "words")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in targets.WORDS))
        options = [
            f"-runs={given.runs}",
            f"-max_total_time={given.seconds}",
            f"-seed={given.seed}",
            f"-dict={words}",
            f"-artifact_prefix={keep}/",
            "-max_len=4096",
            "-timeout=20",
            "-rss_limit_mb=4096",
        ]
        atheris.Setup([sys.argv[0], *options, str(keep), str(begin)], target)
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
