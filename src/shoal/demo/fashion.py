"""Find Fashion-MNIST on this machine, or fetch it: the four gzipped IDX files that the demo and the tests run on."""

import gzip
import hashlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from shoal.base import CorruptError, ShoalError, SourceError, atomic_file, find_home

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
URLS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
# SHA-256 of the content inside the gzip: packagers compress anew, which changes the outer bytes and nothing else.
CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

Say = Callable[[str], None]


def find_fashion_mnist(folder: Path | None = None, *, say: Say = print) -> Path:
    """Return a folder that holds the four files, trying in order: `folder`, Debian's package, the cache, a download.

    On a Debian machine, as root and where the download fails, the package is installed and `say` tells so.

    Raises:
        SourceError: nothing worked; the message lists what was tried and the next step is a command.
        CorruptError: a download, or a file in `folder`, holds something else than the dataset.
    """
    if folder is not None:
        return _complete(folder)
    cache = find_home(create=True) / "cache" / "fashion-mnist"
    for place in (DEBIAN_FOLDER, cache):
        if not _missing(place):
            return place
    tried = []
    for fetch in (_download_all, _install_debian_package):
        try:
            return fetch(cache, say)
        except SourceError as error:
            tried.append(error.message)
    raise SourceError(
        "cannot find Fashion-MNIST: " + "; ".join(tried),
        next_step=f"apt-get install {DEBIAN_PACKAGE}, or put {', '.join(CONTENT_SHA256)} into a folder "
        "and run: shoal demo --data FOLDER",
    )


def content_sha256(path: Path) -> str:
    """SHA-256 of what the gzip file at `path` holds, in hexadecimal; raises `SourceError` for a damaged gzip."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    except (EOFError, OSError) as error:
        raise SourceError(
            f"cannot read {path}: {error}", next_step=f"delete {path} and run the command again"
        ) from error
    return digest.hexdigest()


def check_content(path: Path) -> None:
    """Raise `CorruptError` unless the file at `path` holds exactly the dataset's bytes."""
    found, expected = content_sha256(path), CONTENT_SHA256[path.name]
    if found != expected:
        raise CorruptError(
            f"{path.name} holds other bytes than Fashion-MNIST: SHA-256 {found}, expected {expected}",
            next_step="run the command again; if it stays so, give the files yourself: shoal demo --data FOLDER",
        )


def _missing(folder: Path) -> list[str]:
    return [name for name in CONTENT_SHA256 if not (folder / name).is_file()]


def _complete(folder: Path) -> Path:
    if missing := _missing(folder):
        raise SourceError(
            f"{folder} holds {len(CONTENT_SHA256) - len(missing)} of the 4 files of Fashion-MNIST: "
            f"{', '.join(missing)} missing",
            next_step=f"put the missing files into {folder}, or leave out --data to have them found or fetched",
        )
    for name in CONTENT_SHA256:
        # Plain MNIST has files of the same names: its figures must not be reported as Fashion-MNIST's.
        check_content(folder / name)
    return folder


def _download_all(cache: Path, say: Say) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    for name in _missing(cache):
        _download(name, cache / name, say)
    return cache


def _download(name: str, target: Path, say: Say) -> None:
    failures = []
    for base in URLS:
        try:
            with urllib.request.urlopen(base + name, timeout=20) as response:  # noqa: S310 - URLS are https constants
                say(f"downloading {base}{name}")
                _save_checked(response, int(response.headers.get("Content-Length") or 0), target)
                return
        except (urllib.error.URLError, OSError) as error:
            if isinstance(error, ShoalError):
                raise
            failures.append(f"{base}{name}: {getattr(error, 'reason', error)}")
    raise SourceError("the download failed (" + ", ".join(failures) + ")", next_step="check the network")


def _save_checked(response: BinaryIO, total_bytes: int, target: Path) -> None:
    from rich.progress import Progress  # only a download draws a bar

    # Checked under its final name but in a folder beside it: nothing unchecked ever stands in the cache.
    aside = target.parent / "incoming" / target.name
    aside.parent.mkdir(exist_ok=True)
    try:
        with Progress(transient=True) as progress, atomic_file(aside) as sink:
            task = progress.add_task(target.name, total=total_bytes or None)
            while block := response.read(1 << 18):
                sink.write(block)
                progress.advance(task, len(block))
        check_content(aside)
        aside.replace(target)
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _install_debian_package(_cache: Path, say: Say) -> Path:
    apt = shutil.which("apt-get")
    if apt is None:
        raise SourceError("this is not a Debian machine", next_step="give a folder with --data")
    if not _is_root():
        raise SourceError(f"{DEBIAN_PACKAGE} is not installed", next_step=f"sudo apt-get install {DEBIAN_PACKAGE}")
    say(f"installing Debian's {DEBIAN_PACKAGE} (apt-get, as root)")
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", DEBIAN_PACKAGE]):
        done = subprocess.run([apt, *arguments], capture_output=True, text=True, check=False)
    if done.returncode or _missing(DEBIAN_FOLDER):
        raise SourceError(
            f"apt-get install {DEBIAN_PACKAGE} failed: {done.stderr.strip()[-300:]}", next_step="see the message"
        )
    return DEBIAN_FOLDER


def _is_root() -> bool:
    import os

    return hasattr(os, "geteuid") and os.geteuid() == 0


if __name__ == "__main__":  # `make test` calls this, so that the tests on real data have it
    try:
        sys.stdout.write(f"Fashion-MNIST: {find_fashion_mnist()}\n")
    except ShoalError as error:
        sys.exit(str(error))
