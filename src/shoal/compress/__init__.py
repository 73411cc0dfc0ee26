"""Make a package smaller and faster, and keep the result only where it was measured to pay."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.compress.quantization import Quantized as Quantized
    from shoal.compress.quantization import quantize as quantize

__all__ = ["Quantized", "quantize"]
__getattr__ = lazy_face(__name__, {"Quantized": "quantization", "quantize": "quantization"})
