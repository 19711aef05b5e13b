"""Names in figures."""

from matplotlib.backends.backend_agg import FigureCanvasAgg

from ogkd.reports.cells import Cell
from ogkd.reports.page.figures import shot_curves
from ogkd.reports.render import Row, Table

LONG = [f"OGKD, GRAPH geometry, TOP_K_RATIO {ratio}, CTX_INIT {'WM' * 14}" for ratio in ("0.25", "0.5")]


def test_long_names_of_variants_stay_distinct_and_inside_their_figure():
    shots = ["1 shot", "16 shots"]
    rows = [Row(name, dict.fromkeys(shots, Cell(50.0))) for name in [*LONG, "CoOp"]]
    colours = {row.name: number for number, row in enumerate(rows)}
    figure = shot_curves(Table("t", ["method", *shots], rows), [1, 16], colours, None)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = figure.legends[0].get_texts()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert len({text.get_text() for text in texts}) == 3
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
