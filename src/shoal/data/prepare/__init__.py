"""Preparation without skew: declared, learned in one stream, applied per batch, written into the model's graph."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data.prepare.bucketise import Bucketise as Bucketise
    from shoal.data.prepare.cast import Cast as Cast
    from shoal.data.prepare.clip import Clip as Clip
    from shoal.data.prepare.concatenate import Concatenate as Concatenate
    from shoal.data.prepare.encode import Encode as Encode
    from shoal.data.prepare.fitted import FittedPreparation as FittedPreparation
    from shoal.data.prepare.hash_bucket import HashBucket as HashBucket
    from shoal.data.prepare.impute import Impute as Impute
    from shoal.data.prepare.log1p import Log1p as Log1p
    from shoal.data.prepare.min_max import MinMax as MinMax
    from shoal.data.prepare.preparation import Preparation as Preparation
    from shoal.data.prepare.scale_image import ScaleImage as ScaleImage
    from shoal.data.prepare.standardise import Standardise as Standardise

__all__ = [
    "Bucketise",
    "Cast",
    "Clip",
    "Concatenate",
    "Encode",
    "FittedPreparation",
    "HashBucket",
    "Impute",
    "Log1p",
    "MinMax",
    "Preparation",
    "ScaleImage",
    "Standardise",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Bucketise": "bucketise",
        "Cast": "cast",
        "Clip": "clip",
        "Concatenate": "concatenate",
        "Encode": "encode",
        "FittedPreparation": "fitted",
        "HashBucket": "hash_bucket",
        "Impute": "impute",
        "Log1p": "log1p",
        "MinMax": "min_max",
        "Preparation": "preparation",
        "ScaleImage": "scale_image",
        "Standardise": "standardise",
    },
)
