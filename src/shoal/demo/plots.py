"""The pictures of the report, each an SVG string drawn by matplotlib without a display."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1d2733", "#66727f", "#e4e8ec"
COLOURS = ("#0b6e99", "#d9822b", "#3f8f5f", "#9a4f96")
ALARM = "#c0392b"


def losses(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> str:
    """Training loss over steps, one line a candidate, smoothed lightly so that the lines can be told apart."""
    figure, axes = _canvas(6.4, 3.2)
    for colour, (name, (steps, values)) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(steps, _smooth(np.asarray(values)), color=colour, label=name, linewidth=1.6)
    axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure)


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Confusion matrix in per cent of each true class; the diagonal is recall."""
    figure, axes = _canvas(6.4, 5.4)
    share = 100.0 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(*share.shape):
        if share[row, column] >= 0.5:
            colour = "white" if share[row, column] > 50 else INK
            axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true, % of row")
    axes.grid(visible=False)
    return _svg(figure)


def latency(milliseconds: NDArray[np.float64]) -> str:
    """Histogram of request latencies up to the 99.5th percentile, with the median and the 99th marked."""
    figure, axes = _canvas(6.4, 3.0)
    axes.hist(milliseconds[milliseconds <= np.percentile(milliseconds, 99.5)], bins=60, color=COLOURS[0])
    for percent, colour in ((50, COLOURS[1]), (99, ALARM)):
        value = float(np.percentile(milliseconds, percent))
        axes.axvline(value, color=colour, linewidth=1.2)
        axes.text(value, axes.get_ylim()[1] * 0.94, f" p{percent} {value:.1f} ms", color=colour, va="top")
    axes.set(xlabel="milliseconds", ylabel="requests")
    return _svg(figure)


def drift(distances: Mapping[str, Sequence[float]], thresholds: Mapping[str, float], *, changed_at: int) -> str:
    """Distance from the training profile by window, in multiples of each column's threshold (1 = alert)."""
    figure, axes = _canvas(6.4, 3.2)
    for colour, (name, values) in zip(COLOURS, distances.items(), strict=False):
        axes.plot(np.asarray(values) / thresholds[name], color=colour, label=name, linewidth=1.6)
    axes.axhline(1.0, color=ALARM, linewidth=1.0, linestyle="--")
    axes.axvline(changed_at - 0.5, color=QUIET, linewidth=1.0, linestyle=":")
    # Vertically in shares of the plot: the curves' own height is not known here.
    axes.text(changed_at - 1.5, 0.5, "images change", color=QUIET, ha="right", transform=axes.get_xaxis_transform())
    axes.set(xlabel="window of traffic", ylabel="distance / threshold", ylim=(0, None))
    axes.legend(frameon=False, labelcolor=INK, loc="upper left")
    return _svg(figure)


def accuracies(bars: Mapping[str, float]) -> str:
    """One bar a situation, in per cent."""
    figure, axes = _canvas(6.4, 2.6)
    names, values = list(bars), [100 * value for value in bars.values()]
    drawn = axes.barh(names, values, color=[COLOURS[0], ALARM, COLOURS[2]][: len(names)], height=0.55)
    axes.bar_label(drawn, fmt="%.1f %%", padding=4, color=INK)
    axes.set(xlim=(0, 108), xlabel="accuracy, %")
    axes.invert_yaxis()
    return _svg(figure)


def _canvas(width: float, height: float) -> tuple["Figure", "Axes"]:
    # The object interface, not pyplot: no global state, no display, safe in a thread.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(GRID)
    axes.xaxis.label.set_color(QUIET)
    axes.yaxis.label.set_color(QUIET)
    return figure, axes


def _svg(figure: "Figure") -> str:
    from matplotlib import rc_context

    sink = io.StringIO()
    # Text stays text, so that the page can be searched and read aloud; a fixed salt makes equal pictures equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "shoal", "font.family": "sans-serif"}):
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    text = sink.getvalue()
    return text[text.index("<svg") :]


def _smooth(values: NDArray[np.float64], width: int = 9) -> NDArray[np.float64]:
    if len(values) < 2 * width:
        return values
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")
