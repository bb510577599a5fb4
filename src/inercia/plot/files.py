"""Figures as files."""

from collections.abc import Callable
from pathlib import Path as FilePath

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inercia.plot.style import STYLE


def save(draw: Callable, file: FilePath, size: tuple[float, float] = (3.5, 2.8), columns: int = 1) -> FilePath:
    """Draw one figure at column width, or several side by side, and write it; `draw` gets the axes, one or an array."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        draw(figure.add_subplot() if columns == 1 else figure.subplots(1, columns))
        figure.savefig(file, bbox_inches="tight")
    return file
