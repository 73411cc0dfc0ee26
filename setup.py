"""The one part of the build that pyproject.toml cannot say: loops in C, left out where no compiler is at hand."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Optional: without them everything works and gives the same bytes; `shoal.data.native` says that it is slower.
        Extension(f"shoal.data.{name}", [f"src/shoal/data/{name}.c"], extra_compile_args=["-O3"], optional=True)
        for name in ("_native", "_statistics", "_parsing")
    ]
)
