"""Every python block of the README and the docs runs, top to bottom, as its reader would run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if BLOCK.search(page.read_text())
]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text("\n".join(BLOCK.findall(page.read_text())))

    done = subprocess.run([sys.executable, program.name], cwd=tmp_path, capture_output=True, text=True, timeout=240)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_run(example, tmp_path):
    done = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, timeout=240)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_link_leads_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_no_page_waits_for_its_figures():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

    assert [
        page.name for page in pages if re.search(r"^(OUTPUT|FIGURES|TODO|TBD)$", page.read_text(), re.MULTILINE)
    ] == []


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text().count("\n") <= 150


def test_every_decision_record_is_short_and_accepted():
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))

    wrong = [
        record.name
        for record in records
        if (text := record.read_text()).count("\n") > 60 or not re.search(r"^Status: (accepted|superseded)", text, re.M)
    ]

    assert records
    assert wrong == []


def test_examples_are_short():
    long = [path.name for path in (ROOT / "examples").glob("*.py") if path.read_text().count("\n") > 120]

    assert long == []
