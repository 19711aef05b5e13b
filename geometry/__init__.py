"""How the classes of a data set relate: geometry/<DATASET>.yaml, the distances and costs it gives, and class graphs.

Needs PyYAML and NumPy only, so that a table of results prints at once.
"""

from .costs import costs, distances
from .files import FOLDER, Geometry, geometry_file, read_geometry
from .graphs import GRAPHS, class_graph_matrix, find_graph, read_graph, register_graph, row_softmax, similarity

__all__ = [
    "FOLDER",
    "GRAPHS",
    "Geometry",
    "class_graph_matrix",
    "costs",
    "distances",
    "find_graph",
    "geometry_file",
    "read_geometry",
    "read_graph",
    "register_graph",
    "row_softmax",
    "similarity",
]
