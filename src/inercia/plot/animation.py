"""Paths that advance in one clock."""

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import matplotlib
import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from inercia.core import check
from inercia.core.path import Path
from inercia.plot.contours import paths
from inercia.plot.style import STYLE


def animate(lines: Mapping[str, Path], loss: Callable, *, seconds: float = 3.0, fps: int = 20) -> FuncAnimation:
    """Show paths as they advance in one clock, over the contours of a loss of two parameters.

    Args:
        lines: label -> path, with two parameters each.
        loss: params -> scalar.
        seconds: length of the film; its last picture stays for one second more.
        fps: pictures a second.

    Returns:
        A film for `save_animation`; in a notebook, its `to_jshtml`.

    Raises:
        ValueError: a path whose params are not two numbers; seconds or fps that are not above 0.
    """
    check.positive("seconds", seconds)
    fps = check.integer("fps", fps)
    with matplotlib.rc_context({**STYLE, "figure.dpi": 100}):
        figure = Figure(figsize=(3.5, 3.3))
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        drawn: list[Any] = paths(ax, loss, lines)[1:]
        clock = ax.text(0.98, 0.03, "", transform=ax.transAxes, ha="right")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the axes are placed once
    points = [path.flat() for path in lines.values()]
    span = np.concatenate([path.times for path in lines.values()])

    def show(now: float) -> list[Artist]:
        for line, path, xy in zip(drawn, lines.values(), points, strict=True):
            shown = xy[path.times <= now + 1e-9]
            if path.solve is not None and path.times[0] <= path.times[-1]:  # a flow is there between the times too
                shown = np.vstack([shown, [np.interp(now, path.times, column) for column in xy.T]])
            line.set_data(*shown.T)
        clock.set_text(f"t = {now:.0f}")
        return [*drawn, clock]

    times = np.linspace(span.min(), span.max(), max(2, round(seconds * fps)))
    return FuncAnimation(figure, show, [*times, *times[-1:].repeat(fps)], interval=1000 / fps, cache_frame_data=False)


def save_animation(film: FuncAnimation, file: FilePath, fps: int = 20) -> FilePath:
    """Write a film as .gif by Pillow, or as .mp4 where ffmpeg is installed; return the file.

    Raises:
        ValueError: another ending, or no ffmpeg.
    """
    writers = {".gif": PillowWriter, ".mp4": FFMpegWriter}
    ending = FilePath(file).suffix.lower()
    check.one_of("the file's ending", ending, tuple(writers))
    if not writers[ending].isAvailable():
        raise ValueError(f"{ending} needs ffmpeg, which is not installed: write a .gif.")
    film.save(file, writers[ending](fps=fps))
    if ending == ".gif":
        _few_colours(FilePath(file))
    return file


def _few_colours(file: FilePath) -> None:
    """Write a GIF again in the colours of its last picture: a quarter of the size, since little changes in between."""
    with Image.open(file) as film:
        pictures, durations = zip(
            *((p.convert("RGB"), p.info["duration"]) for p in ImageSequence.Iterator(film)), strict=True
        )
    palette = pictures[-1].quantize(64, Image.Quantize.MAXCOVERAGE)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    first.save(file, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
