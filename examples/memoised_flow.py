"""A flow that remembers: run it twice, then edit `area` or a comment and run it again.

    python examples/memoised_flow.py

The second run reuses every step. After an edit of `area`, which the step `measure` calls, its steps run again; after an
edit of a comment none does.
"""

from shoal.flow import flow, step


def area(width: float) -> float:
    """A helper: it is part of the key of every step that reaches it."""
    return width * width


@step
def measure(width: float) -> float:
    """One branch of the fan-out."""
    return area(width)


@step
def largest(areas: list[float]) -> float:
    """The fan-in."""
    return max(areas)


@flow
def squares(widths: list[float]) -> float:
    """Measure each width and keep the largest."""
    return largest([measure(width) for width in widths])


ran = squares.run(widths=[1.0, 2.0, 3.0])
print(f"largest {ran.value}, {ran.num_run} steps ran, {ran.num_reused} reused")
