"""The one part of the build that pyproject.toml cannot say: loops in C, left out where no compiler is at hand."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Optional: without them everything works and gives the same bytes; `shoal.data.native` says that it is slower.
        Extension(
            f"shoal.data.{name}",
            [f"src/shoal/data/{name}.c"],
            depends=[f"src/shoal/{header}.h" for header in headers],
            extra_compile_args=["-O3", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for name, headers in {
            "_native": ("data/_second_thread", "data/_streaming"),
            "_statistics": (),
            "_parsing": ("base/_decimals",),
        }.items()
    ]
    + [
        # Optional too: without it the members of a training run look at each other's counters every now and then.
        Extension(
            "shoal.train.group._waiting",
            ["src/shoal/train/group/_waiting.c"],
            depends=["src/shoal/train/group/_waiting.h"],
            extra_compile_args=["-O3"],
            optional=True,
        ),
        # Optional: without it a front reads every request's JSON with msgspec and struct, and answers fewer a second.
        Extension(
            "shoal.serve.wire._infer_body",
            ["src/shoal/serve/wire/_infer_body.c"],
            depends=["src/shoal/base/_decimals.h"],
            extra_compile_args=["-O3"],
            optional=True,
        ),
    ]
)
