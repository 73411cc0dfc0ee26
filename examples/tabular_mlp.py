"""A network over a table with gaps and categories: which functions of Python's own library are documented?

    python examples/tabular_mlp.py
    shoal train run examples/tabular_mlp.py:Documented --data FOLDER --workers 2

The first line leaves the dataset in a FOLDER, made from a CSV file of the functions in the library's own sources.
"""

import ast
import csv
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import shoal
from shoal.data.prepare import Concatenate, Encode, Impute, Log1p, Preparation, Standardise

COLUMNS = ("module", "name_length", "arguments", "statements", "branches", "methods", "documented")
NUMBERS = ("name_length", "arguments", "statements", "branches", "methods")


@dataclass(frozen=True)
class Documented(shoal.Task):
    """Whether a function has a docstring, from numbers float32 [batch, 6] and the module's index."""

    width: int = 64
    learning_rate: float = 2e-3
    num_modules: int = 65

    def build(self) -> nn.Module:
        """The network."""
        return Network(self.width, self.num_modules)

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Both columns that the preparation makes."""
        return batch["features"], batch["module"]

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy."""
        return F.cross_entropy(outputs, batch["documented"].long())

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(params, lr=self.learning_rate)

    def metrics(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Mapping[str, shoal.train.Metric]:
        """Accuracy, and that of always saying no, which is to be beaten."""
        labels = batch["documented"].long()
        return {"accuracy": shoal.train.accuracy(outputs, labels), "baseline": shoal.train.Mean.of(labels == 0)}


class Network(nn.Module):
    """Two layers over the numbers and what is learned of each module."""

    def __init__(self, width: int, num_modules: int) -> None:
        super().__init__()
        self.module = nn.Embedding(num_modules, 8)
        self.layers = nn.Sequential(nn.Linear(len(NUMBERS) + 1 + 8, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, features: Tensor, module: Tensor) -> Tensor:
        """Logits float32 [batch, 2]."""
        logits: Tensor = self.layers(torch.cat([features, self.module(module)], dim=1))
        return logits


def rows_of(path: Path) -> Iterator[tuple[object, ...]]:
    """A row for each function; `methods` of its class, empty for one outside of any class."""
    tree = ast.parse(path.read_bytes())
    classes = {id(item): node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            is_documented = ast.get_docstring(node) is not None
            inside = list(ast.walk(node))
            branches = sum(isinstance(item, ast.If | ast.For | ast.While | ast.Try) for item in inside)
            # The docstring is a statement itself, and must not give itself away.
            statements = sum(isinstance(item, ast.stmt) for item in inside) - is_documented
            methods = len(classes[id(node)].body) if id(node) in classes else ""
            numbers = (len(node.name), len(node.args.args), statements, branches, methods)
            yield (path.stem, *numbers, int(is_documented))


def main() -> None:
    """Write the CSV file, ingest and prepare it, train, and say what came of it."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-example-"))
    library = Path(sysconfig.get_paths()["stdlib"])
    with (folder / "functions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for path in sorted([*library.glob("*.py"), *library.glob("[a-hj-su-z]*/*.py")]):
            writer.writerows(rows_of(path))

    train, _ = shoal.data.ingest(folder / "functions.csv", folder / "functions").split(0.8, 0.2)
    chains = {name: [Log1p(), Standardise()] for name in NUMBERS} | {
        "methods": [Impute("median", indicator=True), Log1p(), Standardise()],
        "module": [Encode(max_categories=64)],
        "features": Concatenate([*NUMBERS, "methods_missing"]),
    }
    # It learns from the training side alone; the version it makes has it for both.
    train.prepare(Preparation(chains, keep=["documented"]))
    train, validation = shoal.data.open(folder / "functions").split(0.8, 0.2)
    with shoal.store.open(folder / ".shoal") as store:
        result = shoal.train.fit(
            Documented(), train, validation=validation, epochs=5, batch_size=128, workers=2, store=store
        )
    found = result.metrics
    print(f"accuracy {found['validation.accuracy']:.3f}, always no: {found['validation.baseline']:.3f}, {result.run}")
    print(f"again: shoal train run {__file__}:Documented --data {folder / 'functions'} --workers 2")


if __name__ == "__main__":
    main()
