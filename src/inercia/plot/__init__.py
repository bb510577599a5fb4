"""Figures: axes in, artists out.

Nothing is shown, only `save` writes, and no global setting is changed; `plt.rc_context(STYLE)` gives the style of the
project's own figures. Colours are Okabe and Ito's, distinct for colour-blind readers and in print; lines carry
their names at their ends where there is room.
"""

from inercia.plot.animation import animate, save_animation
from inercia.plot.contours import paths
from inercia.plot.damped import damping
from inercia.plot.files import save
from inercia.plot.over_time import gaps, training
from inercia.plot.step_sizes import orders, rates
from inercia.plot.style import COLOURS, STYLE
from inercia.plot.three_curves import edge

__all__ = [
    "COLOURS",
    "STYLE",
    "animate",
    "damping",
    "edge",
    "gaps",
    "orders",
    "paths",
    "rates",
    "save",
    "save_animation",
    "training",
]
