"""MosaicML Streaming: MDS shards of raw bytes, read by two DataLoader workers, shuffled with its default algorithm.

Two workers beat none and one on every workload: a sample costs an `open`, so there is much to share.
"""

import sys
import types
from functools import partial
from pathlib import Path
from typing import ClassVar

from driving import Batch, Side, Workload, drive, flat_batch, image_batch
from torch.utils.data import DataLoader


def _stand_in(module: str, **names: object) -> None:
    found = types.ModuleType(module)
    found.__dict__.update(names)
    sys.modules[module] = found


# `import streaming` wants these for its image and text corpora; none of it is on the measured path, and torchvision
# from PyPI does not load beside a torch without CUDA.
_stand_in("torchvision")
_stand_in("torchvision.datasets", VisionDataset=object)
_stand_in("torchvision.transforms")
_stand_in("torchvision.transforms.functional", to_tensor=None)
_stand_in("transformers")
_stand_in("transformers.feature_extraction_utils", BatchFeature=type("BatchFeature", (), {}))
_stand_in("transformers.tokenization_utils_base", BatchEncoding=type("BatchEncoding", (), {}))
_stand_in("transformers.models")
_stand_in("transformers.models.auto")
_stand_in("transformers.models.auto.tokenization_auto", AutoTokenizer=None)

from streaming import MDSWriter, StreamingDataset  # noqa: E402

COLUMNS = {
    "A": {"image": "bytes", "label": "int"},
    "B": {"image": "bytes"},
    "C": {"blob": "bytes"},
}
WORKERS = 2


class MosaicStreaming:
    """Raw bytes, because its ndarray encoding is slower to decode."""

    settings: ClassVar[dict[str, str]] = {
        "all": f"MDS, columns of raw bytes, {WORKERS} workers, collate by one join per batch, py1e shuffle"
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Rows one by one through MDSWriter, not compressed."""
        columns = COLUMNS[workload.name]
        with MDSWriter(out=str(folder), columns=columns) as writer:
            for row in workload.rows():
                values = [row[0] if workload.name == "C" else row[0].tobytes(), *map(int, row[1:])]
                writer.write(dict(zip(columns, values, strict=True)))

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """One StreamingDataset under torch's DataLoader."""
        dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=workload.batch_size)
        loader = DataLoader(
            dataset,
            batch_size=workload.batch_size,
            num_workers=WORKERS,
            persistent_workers=WORKERS > 0,
            collate_fn=_collate_blobs if workload.name == "C" else partial(_collate_images, workload.images.shape[1:]),
        )
        return {"mosaicml-streaming": lambda _: loader}


def _collate_images(shape: tuple[int, ...], rows: list[dict]) -> Batch:
    return image_batch([row["image"] for row in rows], shape, [row["label"] for row in rows if "label" in row])


def _collate_blobs(rows: list[dict]) -> Batch:
    return flat_batch([row["blob"] for row in rows])


if __name__ == "__main__":
    drive(MosaicStreaming())
