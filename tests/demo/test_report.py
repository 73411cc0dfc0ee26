import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from shoal.demo.report import Material, write_report
from shoal.demo.watching import DriftStory
from shoal.model import evaluate_classification


@pytest.fixture
def page(summary, tmp_path):
    scores = np.random.default_rng(0).dirichlet(np.ones(3), size=60)
    story = DriftStory(distances={"image.std": [0.01, 0.3]}, thresholds={"image.std": 0.1}, changed_at=1)
    material = Material(
        summary=summary,
        classes=["cat", "dog", "eel"],
        loss_curves={"plain": ([1, 2], [2.0, 1.0])},
        candidates=[{"name": "plain", "accuracy": 0.9, "samples_per_s": 4000.0}],
        evaluation=evaluate_classification(scores, np.arange(60) % 3),
        latency_ms=np.linspace(1, 9, 100),
        drift=story,
    )
    write_report(material, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_opens_without_a_network(page):
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "@import" not in page


def test_holds_the_figures(page):
    assert "91.2 %" in page
    assert "fashion@1.abc123.7" in page


def test_text_from_data_is_escaped(page):
    assert "slower &amp; &lt;wider&gt;" in page


def test_every_tag_is_closed(page):
    checker = _Balance()

    checker.feed(page)

    assert checker.open_tags == []


class _Balance(HTMLParser):
    """Counts the tags of the page itself; pictures are checked as XML elsewhere."""

    def __init__(self):
        super().__init__()
        self.open_tags = []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "br"} and "svg" not in self.open_tags:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        if self.open_tags and tag == self.open_tags[-1]:
            self.open_tags.pop()
