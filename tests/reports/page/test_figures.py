"""Names in figures."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ogkd.reports.cells import Cell
from ogkd.reports.page.figures import score_bars, shot_curves
from ogkd.reports.render import Row, Table

LONG = [f"OGKD, GRAPH geometry, TOP_K_RATIO {ratio}, CTX_INIT {'WM' * 14}" for ratio in ("0.25", "0.5")]


def table_of(headers):
    return Table("t", ["method", *headers], [Row(name, [Cell(50.0) for _ in headers]) for name in [*LONG, "CoOp"]])


@pytest.mark.parametrize("columns", [1, 3])
def test_long_names_of_variants_stay_distinct_and_inside_their_figure(columns):
    bars = score_bars(table_of([f"column {i}" for i in range(columns)]))
    colours = dict(zip([*LONG, "CoOp"], range(3), strict=True))
    curves = shot_curves(table_of(["1 shot", "16 shots"]), [1, 16], colours, None)
    for figure, texts in ((bars, bars.axes[0].get_yticklabels()), (curves, curves.legends[0].get_texts())):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
        assert len({text.get_text() for text in texts}) == 3
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
