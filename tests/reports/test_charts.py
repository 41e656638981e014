"""There is a chart for each quantity in a history, and no other."""

import base64
import xml.etree.ElementTree as ElementTree

import numpy as np

from maskrcnn.reports.charts import _moving_average, draw_charts


def test_charts_follow_the_history() -> None:
    assert draw_charts([]) == []
    training = [{"step": step, "loss": 1 / step, "mask_loss": 0.1, "learning_rate": 0.1} for step in range(1, 30)]
    assert [chart.title for chart in draw_charts(training)] == ["Total loss", "Loss terms", "Learning rate"]
    scores = [{"step": step, "bbox_AP": 0.1 * step} for step in (1, 2)]
    assert [chart.title for chart in draw_charts(scores)] == ["Average precision"]
    assert draw_charts(scores[:1]) == []  # one point is no curve


def test_charts_are_complete_svg_files_and_reproducible() -> None:
    history = [{"step": step, "loss": 1 / step} for step in range(1, 30)]
    (chart,) = draw_charts(history)
    content = base64.b64decode(chart.image.removeprefix("data:image/svg+xml;base64,"))
    assert ElementTree.fromstring(content).tag.endswith("svg")
    assert draw_charts(history) == [chart]


def test_moving_average_at_the_ends() -> None:
    np.testing.assert_allclose(_moving_average(np.array([1.0, 2.0, 6.0, 3.0]), 1), [1.5, 3.0, 11 / 3, 4.5])
