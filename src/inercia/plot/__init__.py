"""Figures: axes in, artists out.

Nothing is shown, only `save` and `save_animation` write, and no setting of matplotlib's is changed. The style of the
project's own figures is `plt.rc_context(STYLE)` or `plt.style.use("inercia.plot.inercia")`; `language("es")` has them
speak Spanish. Colours are Okabe and Ito's, distinct for colour-blind readers and in print; lines carry their names at
their ends where there is room, and titles stand above the legends.
"""

from inercia.plot.animation import animate, save_animation
from inercia.plot.contours import paths
from inercia.plot.damped import damping
from inercia.plot.diagrams import regimes, stability
from inercia.plot.eigenvalues import density, spectrum
from inercia.plot.files import save
from inercia.plot.network_graph import graph
from inercia.plot.over_time import gaps, series, training
from inercia.plot.phase_plane import phase
from inercia.plot.step_sizes import orders, rates
from inercia.plot.style import COLOURS, STYLE, STYLE_FILE
from inercia.plot.three_curves import edge
from inercia.plot.words import language

__all__ = [
    "COLOURS",
    "STYLE",
    "STYLE_FILE",
    "animate",
    "damping",
    "density",
    "edge",
    "gaps",
    "graph",
    "language",
    "orders",
    "paths",
    "phase",
    "rates",
    "regimes",
    "save",
    "save_animation",
    "series",
    "spectrum",
    "stability",
    "training",
]
