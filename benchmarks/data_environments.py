"""The peers' environments: one folder under `.bench/` for each group of peers that can live together."""

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).parents[1]
BENCH = ROOT / ".bench"
PEERS = Path(__file__).parent / "peers"
CONSTRAINTS = ROOT / "constraints.txt"
TORCH = "torch==2.13.0"


class MissingPeerError(Exception):
    """A peer cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Environment:
    """Pinned packages in a virtual environment of their own, made when first asked for and kept while the pins are."""

    name: str
    needs_torch: bool

    @property
    def requirements(self) -> Path:
        """The pins: every package that is imported, so that pip need not resolve anything."""
        return PEERS / f"requirements-{self.name}.txt"

    @property
    def _folder(self) -> Path:
        return BENCH / f"env-{self.name}"

    @property
    def _ready(self) -> Path:
        pins = self.requirements.read_bytes() + (f"{TORCH}".encode() if self.needs_torch else b"")
        return self._folder / f"ready-{blake2b(pins, digest_size=6).hexdigest()}"

    def is_ready(self) -> bool:
        """Whether it is there with these pins."""
        return self._ready.exists()

    def python(self) -> str:
        """Return its interpreter, after making it if need be.

        Raises:
            MissingPeerError: pip could not install something; the text is pip's last word.
        """
        found = self._folder / "bin" / "python"
        if not self.is_ready():
            print(f"making the environment of the peers in {self._folder} (a few minutes)", file=sys.stderr)
            shutil.rmtree(self._folder, ignore_errors=True)
            venv.create(self._folder, with_pip=True)
            if self.needs_torch:
                # Pinned by the project's constraints, like the torch that shoal runs with.
                _install(found, "--constraint", str(CONSTRAINTS), TORCH)
            _install(found, "--no-deps", "--requirement", str(self.requirements))
            self._ready.touch()
        return str(found)

    def versions(self) -> list[str]:
        """The pins, as lines like "litdata==0.2.76"."""
        lines = self.requirements.read_text().splitlines()
        return [line for line in lines if line and not line.startswith("#")]


def _install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["pip failed"]
        raise MissingPeerError(reason[-1].removeprefix("ERROR: "))


CHUNKS = Environment("chunks", needs_torch=True)
ARROW = Environment("arrow", needs_torch=True)
TENSORFLOW = Environment("tensorflow", needs_torch=False)
TRAINING = Environment("training", needs_torch=True)
# BentoML and Ray Serve pin little, MLServer an older FastAPI, pytriton an older NumPy.
SERVING = Environment("serving", needs_torch=False)
SERVING_MLSERVER = Environment("serving-mlserver", needs_torch=False)
SERVING_TRITON = Environment("serving-triton", needs_torch=False)
