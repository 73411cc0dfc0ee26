import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from shoal.base import UnsupportedError
from shoal.model.estimators import convert_estimator
from shoal.model.estimators.converters import parts_of, prepared_for_conversion
from shoal.model.estimators.wrapping import NO_TEXT


def convert(model, example):
    return convert_estimator(model, example, kind=None, most_rows=256, tolerance=1e-4)


@pytest.mark.parametrize("strategy", ["most_frequent", "constant"])
def test_gaps_in_texts_are_filled_as_the_imputer_does(people, by_column, strategy):
    frame, buys = people
    frame = frame.assign(city=frame.city.astype(object).where(frame.city.notna(), np.nan))
    filling = SimpleImputer(strategy=strategy, **({"fill_value": "nowhere"} if strategy == "constant" else {}))

    converted = convert(
        by_column(LogisticRegression(), make_pipeline(filling, OneHotEncoder(handle_unknown="ignore"))).fit(
            frame, buys
        ),
        frame,
    )

    assert converted.difference < 1e-6


def test_an_imputer_that_also_tells_where_is_refused(people):
    frame, buys = people
    model = make_pipeline(SimpleImputer(add_indicator=True), LogisticRegression()).fit(frame[["age", "visits"]], buys)

    with pytest.raises(UnsupportedError, match="add_indicator"):
        convert(model, frame)


def test_the_estimator_itself_is_not_changed(people, by_column):
    frame, buys = people
    model = by_column(LogisticRegression()).fit(frame, buys)

    copied = prepared_for_conversion(model)

    encoder = next(part for part in parts_of(model) if isinstance(part, OneHotEncoder) and hasattr(part, "categories_"))
    changed = next(
        part for part in parts_of(copied) if isinstance(part, OneHotEncoder) and hasattr(part, "categories_")
    )
    assert NO_TEXT not in encoder.categories_[0].tolist()
    assert NO_TEXT in changed.categories_[0].tolist()
