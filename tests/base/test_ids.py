from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import InputError, PredictionId, ids, new_id, new_token, parse_prediction_id


def test_ids_strictly_increase():
    made = [new_id() for _ in range(5000)]

    assert made == sorted(set(made))


def test_ids_increase_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch):
    before = new_id()
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)

    assert new_id() > before


def test_ids_sort_by_time_across_processes(monkeypatch: pytest.MonkeyPatch):
    # Another process is a fresh memory of the last id.
    made = []
    for time_ns in (10**18, 10**18 + 10**6):
        monkeypatch.setattr(ids, "_last", 0)
        monkeypatch.setattr(ids.time, "time_ns", lambda now=time_ns: now)
        made.append(new_id("r-"))

    assert made == sorted(made)


def test_threads_never_get_the_same_id():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id(), range(2000)))

    assert len(set(made)) == 2000


def test_token_has_the_asked_length():
    assert len(new_token(6)) == 6
    assert new_token(12) != new_token(12)


NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1)


@given(model=NAMES, version=st.integers(1), row=st.integers(0))
def test_prediction_id_reads_back_for_any_model_name(model: str, version: int, row: int):
    made = PredictionId(model=model, version=str(version), log_id="x7k2p9", row=row)

    assert parse_prediction_id(str(made)) == made


@pytest.mark.parametrize(
    "bad", ["", "fashion", "fashion@3", "fashion@3.x7", "@3.x7.1", "f@.x.1", "f@3.x.-1", "f@3.x.٣", "f@3..1"]
)
def test_malformed_prediction_id_shows_the_right_form(bad: str):
    with pytest.raises(InputError, match=r"model@version\.log\.row"):
        parse_prediction_id(bad)


def test_an_id_says_that_sampling_left_it_out():
    left_out = PredictionId("fashion", "3", f"{PredictionId.UNSAMPLED}{new_token(6)}", 7)

    assert parse_prediction_id(str(left_out)) == left_out
    assert left_out.is_unsampled
    assert not PredictionId("fashion", "3", new_token(12), 7).is_unsampled
