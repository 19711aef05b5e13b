"""How the classes of a data set relate: geometry/<DATASET>.yaml, the distances and costs it defines, and class graphs.

Needs only PyYAML and NumPy, so that a table of results prints at once.
"""

from ogkd.classes.costs import costs, distances
from ogkd.classes.files import FOLDER, Geometry, geometry_file, read_geometry
from ogkd.classes.graphs import (
    GRAPHS,
    TEXT,
    class_graph_matrix,
    find_graph,
    graph_file,
    read_graph,
    register_graph,
    row_softmax,
    similarity,
)

__all__ = [
    "FOLDER", "GRAPHS", "TEXT", "Geometry", "class_graph_matrix", "costs", "distances", "find_graph", "geometry_file",
    "graph_file", "read_geometry", "read_graph", "register_graph", "row_softmax", "similarity",
]  # fmt: skip
