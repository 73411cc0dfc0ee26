"""A table with numbers, texts, truths and gaps, and pipelines that take it."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def people():
    """(200 rows as a data frame, whether each of them buys)."""
    pd = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    num = 200
    frame = pd.DataFrame(
        {
            "age": np.where(random.random(num) < 0.1, np.nan, random.normal(40, 10, num)),
            "visits": random.integers(0, 30, num),
            "city": np.array(random.choice(["Oslo", "Rome", None], num), object),
            "member": random.random(num) < 0.3,
        }
    )
    buys = (frame.visits + 10 * (frame.city == "Oslo") + random.normal(0, 3, num) > 18).to_numpy().astype(int)
    return frame, buys


@pytest.fixture
def by_column():
    """Makes a pipeline that fills gaps, scales numbers and encodes texts before an estimator."""
    pytest.importorskip("skl2onnx")
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def by_column(estimator, texts=None):
        columns = ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "visits"]),
                ("texts", texts or OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("rest", "passthrough", ["member"]),
            ]
        )
        return make_pipeline(columns, estimator)

    return by_column
