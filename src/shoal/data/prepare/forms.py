"""Operators as JSON and back: the closed set, by name."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from shoal.base import Json, UnsupportedError, decode, encode
from shoal.data.prepare.base import Operator
from shoal.data.prepare.bucketise import Bucketise
from shoal.data.prepare.cast import Cast
from shoal.data.prepare.clip import Clip
from shoal.data.prepare.encode import Encode
from shoal.data.prepare.hash_bucket import HashBucket
from shoal.data.prepare.impute import Impute
from shoal.data.prepare.log1p import Log1p
from shoal.data.prepare.min_max import MinMax
from shoal.data.prepare.scale_image import ScaleImage
from shoal.data.prepare.standardise import Standardise

OPERATORS: dict[str, type[Operator]] = {
    kind.name: kind
    for kind in (Bucketise, Cast, Clip, Encode, HashBucket, Impute, Log1p, MinMax, ScaleImage, Standardise)
}


def to_form(operator: Operator) -> dict[str, Json]:
    """Return an operator as JSON values: its name and its fields."""
    fields: dict[str, Json] = decode(encode(asdict(operator)))  # type: ignore[call-overload]  # each one is a dataclass
    return {"operator": operator.name, **fields}


def from_form(form: Mapping[str, Any]) -> Operator:
    """Return the operator of a form.

    Raises:
        UnsupportedError: there is no such operator here: a later shoal wrote it.
        InputError: a field does not fit.
    """
    kind = OPERATORS.get(str(form.get("operator")))
    if kind is None:
        raise UnsupportedError(
            f"there is no operator {form.get('operator')!r}: expected one of {', '.join(sorted(OPERATORS))}",
            next_step="read it with a newer shoal",
        )
    fields = {name: value for name, value in form.items() if name != "operator"}
    return decode(encode(fields), kind)
