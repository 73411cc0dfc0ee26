"""Whose code is it? Python's, an installed distribution's, or the project's own."""

import importlib
import sys

import numpy as np
import pytest

from shoal.runtime.origin import Package, is_standard, label_of, packages_of


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the import path that looks like one where distributions are installed."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return folder


def test_pythons_own_modules_belong_to_no_distribution():
    assert is_standard("json.decoder")
    assert packages_of("json.decoder") == ()


def test_an_installed_distribution_is_named_with_its_version():
    assert packages_of("numpy.linalg") == (Package("numpy", np.__version__),)


def test_a_distribution_of_another_name_is_found():
    assert [package.name for package in packages_of("PIL")] == ["pillow"]


def test_a_module_in_a_plain_folder_is_the_projects(tmp_path, monkeypatch):
    (tmp_path / "plain_module_for_origin.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert packages_of("plain_module_for_origin") == ()
    assert not is_standard("plain_module_for_origin")


def test_a_project_file_may_bear_the_name_of_a_standard_module(tmp_path, monkeypatch):
    (tmp_path / "this.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    is_standard.cache_clear()
    importlib.invalidate_caches()

    assert not is_standard("this")
    is_standard.cache_clear()


def test_a_package_without_metadata_counts_by_content(site):
    (site / "bare_for_origin").mkdir()
    (site / "bare_for_origin" / "__init__.py").write_text("x = 1\n")

    (found,) = packages_of("bare_for_origin")

    assert found.name == "bare_for_origin"
    assert found.version.startswith("b3:")


def test_content_written_after_import_promises_nothing_to_other_processes(site):
    (site / "fresh_for_origin.py").write_text("x = 1\n")

    (found,) = packages_of("fresh_for_origin")

    assert found.changed_since_import
    assert "+" in found.version


def test_a_module_that_is_nowhere_is_nobodys():
    assert packages_of("nowhere_at_all") == ()


def test_a_script_is_labelled_as_if_it_were_imported(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", "/somewhere/pipeline.py", raising=False)

    assert label_of("__main__") == "pipeline"
    assert label_of("other.module") == "other.module"
