"""Which rows, how often, in what order: subsets as one bit per row, orders by label or weight, mixtures, reservoirs."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data.sampling.binding import OrderSpec as OrderSpec
    from shoal.data.sampling.min_per_class import MinPerClass as MinPerClass
    from shoal.data.sampling.recipes import Recipe as Recipe
    from shoal.data.sampling.reservoirs import Reservoir as Reservoir
    from shoal.data.sampling.reservoirs import reservoir as reservoir
    from shoal.data.sampling.stratified import Stratified as Stratified
    from shoal.data.sampling.weighted import Weighted as Weighted

__all__ = [
    "MinPerClass",
    "OrderSpec",
    "Recipe",
    "Reservoir",
    "Stratified",
    "Weighted",
    "reservoir",
]

__getattr__ = lazy_face(
    __name__,
    {
        "MinPerClass": "min_per_class",
        "OrderSpec": "binding",
        "Recipe": "recipes",
        "Reservoir": "reservoirs",
        "Stratified": "stratified",
        "Weighted": "weighted",
        "reservoir": "reservoirs",
    },
)
