import gzip
import io
import urllib.error

import pytest

from shoal.base import CorruptError, SourceError
from shoal.demo import fashion


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without the dataset, without a network and without apt."""

    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not-installed")
    monkeypatch.setattr(fashion.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(fashion.shutil, "which", lambda _name: None)
    return tmp_path


def test_a_given_folder_comes_first(tmp_path, monkeypatch):
    digest = fashion.hashlib.sha256(b"any images").hexdigest()
    monkeypatch.setattr(fashion, "CONTENT_SHA256", dict.fromkeys(fashion.CONTENT_SHA256, digest))
    for name in fashion.CONTENT_SHA256:
        (tmp_path / name).write_bytes(gzip.compress(b"any images"))

    assert fashion.find_fashion_mnist(tmp_path) == tmp_path


def test_another_dataset_under_the_same_names_is_refused(tmp_path):
    for name in fashion.CONTENT_SHA256:
        (tmp_path / name).write_bytes(gzip.compress(b"digits"))

    with pytest.raises(CorruptError, match="other bytes than Fashion-MNIST"):
        fashion.find_fashion_mnist(tmp_path)


def test_a_given_folder_that_lacks_a_file_is_refused_by_the_files_name(tmp_path):
    first, *others = fashion.CONTENT_SHA256
    for name in others:
        (tmp_path / name).touch()

    with pytest.raises(SourceError, match=first):
        fashion.find_fashion_mnist(tmp_path)


def test_says_what_was_tried_and_what_to_do_when_nothing_works(nowhere):
    with pytest.raises(SourceError) as caught:
        fashion.find_fashion_mnist(say=lambda _text: None)

    assert "no network" in caught.value.message
    assert "not a Debian machine" in caught.value.message
    assert "shoal demo --data FOLDER" in caught.value.next_step


def test_asks_for_sudo_where_the_user_is_not_root(nowhere, monkeypatch):
    monkeypatch.setattr(fashion.shutil, "which", lambda _name: "/usr/bin/apt-get")
    monkeypatch.setattr(fashion, "_is_root", lambda: False)

    with pytest.raises(SourceError, match=fashion.DEBIAN_PACKAGE):
        fashion.find_fashion_mnist(say=lambda _text: None)


def test_a_download_with_a_wrong_digest_is_refused_and_leaves_nothing(nowhere, monkeypatch):
    content = gzip.compress(b"something else")
    monkeypatch.setattr(fashion.urllib.request, "urlopen", lambda *_args, **_kwargs: _Response(content))

    with pytest.raises(CorruptError, match=r"train-images-idx3-ubyte\.gz"):
        fashion.find_fashion_mnist(say=lambda _text: None)

    assert [path for path in (nowhere / ".shoal").rglob("*") if path.is_file()] == []


def test_a_download_is_checked_by_content_and_kept(nowhere, monkeypatch):
    content = b"any images"
    digest = fashion.hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fashion, "CONTENT_SHA256", dict.fromkeys(fashion.CONTENT_SHA256, digest))
    monkeypatch.setattr(fashion.urllib.request, "urlopen", lambda *_a, **_k: _Response(gzip.compress(content)))
    said = []

    folder = fashion.find_fashion_mnist(say=said.append)
    again = fashion.find_fashion_mnist(say=said.append)

    assert folder == again
    assert sorted(path.name for path in folder.iterdir()) == sorted(fashion.CONTENT_SHA256)
    assert len(said) == 4


def test_a_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(1000))[:-10])

    with pytest.raises(SourceError, match=r"train-images-idx3-ubyte\.gz"):
        fashion.content_sha256(path)


def test_the_installed_files_are_the_dataset():
    try:
        folder = fashion.find_fashion_mnist(say=lambda _text: None)
    except SourceError as error:
        pytest.skip(str(error))

    fashion.check_content(folder / "t10k-images-idx3-ubyte.gz")


class _Response(io.BytesIO):
    def __init__(self, content):
        super().__init__(content)
        self.headers = {}
