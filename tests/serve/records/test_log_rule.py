import pytest

from shoal.base import ConfigError
from shoal.serve.records.log_rule import LogRule
from shoal.serve.versions.router import Shares
from shoal.serve.wire.interface import Interface, TensorField

IDS = [f"request-{number}" for number in range(20_000)]


def interface(*names: str) -> Interface:
    fields = tuple(TensorField(name, "FP32", (None,)) for name in names)
    return Interface(fields[:-1], fields[-1:], batched=True)


@pytest.mark.parametrize("sample", [0.01, 0.1, 0.5])
def test_the_share_that_is_taken_is_the_one_asked_for(sample):
    taken = sum(LogRule(sample).takes(id) for id in IDS)

    # Five standard deviations of a fair coin of that weight.
    assert abs(taken - sample * len(IDS)) < 5 * (len(IDS) * sample * (1 - sample)) ** 0.5


def test_all_are_taken_by_default():
    assert all(map(LogRule().takes, IDS))


def test_an_id_is_always_or_never_taken_and_a_larger_share_keeps_it():
    small, large = LogRule(0.1), LogRule(0.2)

    assert [small.takes(id) for id in IDS] == [small.takes(id) for id in IDS]
    assert all(large.takes(id) for id in IDS if small.takes(id))


def test_a_canary_is_logged_as_much_as_the_main_version():
    shares, rule = Shares.of({"1": 0.9, "2": 0.1}), LogRule(0.1)
    canary = [id for id in IDS if shares.version_for(id) == "2"]

    taken = sum(map(rule.takes, canary))

    assert abs(taken - 0.1 * len(canary)) < 5 * (len(canary) * 0.09) ** 0.5


def test_an_id_that_is_no_whole_text_is_no_mistake():
    assert LogRule().takes("\ud800")


@pytest.mark.parametrize("sample", [0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(sample):
    with pytest.raises(ConfigError, match=f"log_sample={sample}"):
        LogRule(sample)


def test_an_empty_name_is_refused():
    with pytest.raises(ConfigError, match="empty name"):
        LogRule(drop=("",))


@pytest.mark.parametrize(
    ("drop", "dropped"),
    [
        ((), set()),
        (("pixels",), {"pixels"}),
        (("pix*", "y"), {"pixels", "y"}),
        (("nothing*",), set()),
        (("*",), {"pixels", "age", "age_mask", "y"}),
        (("age",), {"age", "age_mask"}),
        (("age_mask",), {"age", "age_mask"}),
    ],
)
def test_fields_are_dropped_by_name_or_pattern_each_with_its_mask(drop, dropped):
    assert LogRule(drop=drop).dropped("m", interface("pixels", "age", "age_mask", "y")) == dropped


def test_a_name_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"'pixel' from the log of m: its inputs and outputs are pixels, y"):
        LogRule(drop=("pixel",)).dropped("m", interface("pixels", "y"))
