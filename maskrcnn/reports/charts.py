"""Training curves as SVG."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

LOSS_TERMS = {
    "rpn_class_loss": "RPN class",
    "rpn_box_loss": "RPN box",
    "class_loss": "class",
    "box_loss": "box",
    "mask_loss": "mask",
}
COLORS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed")
GRAY = "#64748b"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": GRAY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": "#94a3b8",
    "grid.alpha": 0.3,
    "grid.linewidth": 0.7,
    "savefig.transparent": True,  # the page is light or dark
    "text.color": GRAY,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "maskrcnn",  # the same history gives the same file
}


class Chart(NamedTuple):
    """A chart to embed in a page."""

    title: str
    image: str  # data URI


def draw_charts(history: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Draws a chart for each quantity in a history, see `maskrcnn.logs.history.read_history`."""
    training = [entry for entry in history if "loss" in entry]
    evaluations = [entry for entry in history if "bbox_AP" in entry or "segm_AP" in entry]
    charts = []
    if training:
        terms = [name for name in LOSS_TERMS if name in training[0]]
        charts.append(_chart("Total loss", training, {"loss": "loss"}, smooth=True, from_zero=True))
        if terms:
            charts.append(
                _chart("Loss terms", training, {name: LOSS_TERMS[name] for name in terms}, smooth=True, from_zero=True)
            )
        if "learning_rate" in training[0]:
            charts.append(_chart("Learning rate", training, {"learning_rate": "learning rate"}))
        for name in ("train_throughput", "images_per_second"):
            if name in training[0]:
                charts.append(_chart("Images per second", training, {name: "images/s"}, from_zero=True))
    if len(evaluations) > 1:
        scores = {"segm_AP": "mask AP", "bbox_AP": "box AP"}
        charts.append(_chart("Average precision", evaluations, scores, marker="o", from_zero=True))
    return charts


def _chart(
    title: str,
    entries: Sequence[Mapping[str, float]],
    series: Mapping[str, str],
    *,
    smooth: bool = False,
    marker: str = "",
    from_zero: bool = False,
) -> Chart:
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for color, (name, label) in zip(COLORS, series.items(), strict=False):
            points = [(entry["step"], entry[name]) for entry in entries if name in entry]
            _draw_line(axes, np.array(points, np.float64).reshape(-1, 2), label, color, smooth=smooth, marker=marker)
        axes.set_xlabel("step")
        axes.margins(x=0.02)
        if from_zero:
            axes.set_ylim(bottom=0)
        if len(series) > 1:
            axes.legend(ncols=3, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Chart(title, f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def _draw_line(axes: Axes, points: NDArray[np.float64], label: str, color: str, *, smooth: bool, marker: str) -> None:
    """Draws points [N, 2] as a line; if ``smooth``, as a pale one with their moving average on top."""
    if smooth and len(points) >= 20:
        axes.plot(points[:, 0], points[:, 1], color=color, alpha=0.25, linewidth=0.8)
        points = np.stack([points[:, 0], _moving_average(points[:, 1], len(points) // 20)], axis=1)
    axes.plot(points[:, 0], points[:, 1], color=color, label=label, marker=marker)


def _moving_average(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """The mean of each value and up to ``reach`` values on either side; fewer at the ends."""
    kernel = np.ones(2 * reach + 1)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
