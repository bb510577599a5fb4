"""Every word that the figures show, in each language: English is the key.

What callers name (their lines, metrics, parameters) stays as they wrote it.
"""

from types import TracebackType
from typing import Any

from inercia.core import check

SPANISH = {
    "time (iterations)": "tiempo (iteraciones)",
    "iterations": "iteraciones",
    "updates": "actualizaciones",
    "distance": "distancia",
    "distance to the flow": "distancia al flujo",
    "relative distance": "distancia relativa",
    "dt (iterations per update)": "dt (iteraciones por actualización)",
    "largest distance to the flow": "mayor distancia al flujo",
    "loss": "pérdida",
    "training loss": "pérdida de entrenamiento",
    "evaluate": "evaluación",
    "learning rate": "tasa de aprendizaje",
    "suggested: {rate:.2g}": "sugerida: {rate:.2g}",
    "not finite": "no finita",
    "iterates, averaged": "iterados, promediados",
    "stable flow": "flujo estable",
    "central flow": "flujo central",
    "central flow, predicted": "flujo central, predicha",
    "largest eigenvalue of $P^{-1}H$": "mayor valor propio de $P^{-1}H$",
    "bound {bound:.4g}": "cota {bound:.4g}",
    "displacement of the iterates": "desplazamiento de los iterados",
    "to the stable flow": "al flujo estable",
    "to the central flow": "al flujo central",
    "modified flow": "flujo modificado",
    "rod flow": "flujo de barra",
    "edge flow": "flujo de borde",
    "to the modified flow": "al flujo modificado",
    "to the rod flow": "al flujo de barra",
    "to the edge flow": "al flujo de borde",
    "overdamped": "sobreamortiguado",
    "critical": "crítico",
    "underdamped": "subamortiguado",
    "rank": "rango",
    "eigenvalue": "valor propio",
    "density": "densidad",
    "curvature": "curvatura",
    "stable": "estable",
    "unstable": "inestable",
    "stable with the new m only": "estable solo con m nuevo",
    "explicit (old m)": "explícito (m antiguo)",
    "semi-implicit (new m)": "semi-implícito (m nuevo)",
    "forward pass": "pasada hacia adelante",
    "reverse pass": "pasada hacia atrás",
    "data": "datos",
}
TABLES: dict[str, dict[str, str]] = {"en": {}, "es": SPANISH}
_chosen = ["en"]


class Language:
    """The language from before, which comes back at the end of a `with`."""

    def __init__(self, before: str) -> None:
        self._before = before

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _chosen[0] = self._before


def language(name: str) -> Language:
    """Choose the language of what figures say: "en" or "es"; from here on, or within a `with` only.

    Args:
        name: as in ISO 639-1.

    Raises:
        ValueError: a language that there is no table of.

    Example:
        >>> import inercia.plot
        >>> from matplotlib.figure import Figure
        >>> ax = Figure().add_subplot()
        >>> with language("es"):
        ...     artists = inercia.plot.damping(ax, 0.1)
        >>> ax.get_xlabel()
        'tiempo (iteraciones)'
    """
    before, _chosen[0] = _chosen[0], check.one_of("name", name, TABLES)
    return Language(before)


def said(text: str, **values: Any) -> str:
    """Return a text of the table in the language that was chosen, with its values."""
    words = TABLES[_chosen[0]].get(text, text)
    return words.format(**values) if values else words
