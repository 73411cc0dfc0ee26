"""Estimators of scikit-learn, LightGBM and XGBoost as ONNX graphs that take columns by name."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.model.estimators.conversion import Converted as Converted
    from shoal.model.estimators.conversion import convert_estimator as convert_estimator
    from shoal.model.estimators.conversion import is_estimator as is_estimator
    from shoal.model.estimators.wrapping import LABEL as LABEL

__all__ = ["LABEL", "Converted", "convert_estimator", "is_estimator"]

__getattr__ = lazy_face(
    __name__,
    {
        "LABEL": "wrapping",
        "Converted": "conversion",
        "convert_estimator": "conversion",
        "is_estimator": "conversion",
    },
)
