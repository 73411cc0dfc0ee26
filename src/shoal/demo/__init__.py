"""The demo: Fashion-MNIST from raw files to a served, watched and retrained model."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.demo.story import run_demo as run_demo
    from shoal.demo.summary import Summary as Summary

__all__ = ["Summary", "run_demo"]
__getattr__ = lazy_face(__name__, {"Summary": "summary", "run_demo": "story"})
