"""Benchmarks are programs, not a package: their parts find each other in their own folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
