import json

import pytest

from shoal.base import ConfigError
from shoal.serve.records.log_rule import LogRule
from shoal.serve.records.metrics import Metrics
from shoal.serve.tracing.seeing import Seeing


def test_nobody_asked_so_nothing_is_made():
    assert Seeing().observer(Metrics(), 0) is None
    assert Seeing().rule == LogRule()


def test_the_rule_is_checked():
    assert Seeing(log_sample=0.5, log_drop=["pixels"]).rule == LogRule(0.5, ("pixels",))
    with pytest.raises(ConfigError):
        _ = Seeing(log_sample=0).rule


def test_lines_bear_the_fronts_rank(tmp_path, make_passage):
    observer = Seeing(access_log=str(tmp_path / "lines")).observer(Metrics(), 3)

    passage = make_passage()
    observer._lines.note(passage)
    observer.close()

    assert json.loads((tmp_path / "lines").read_text())["front"] == 3
