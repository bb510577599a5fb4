"""Each word of the figures stands in the table once, and is said in the language that was chosen."""

import ast
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from inercia import plot
from inercia.plot.words import SPANISH, said

FILES = sorted(Path(plot.__file__).parent.glob("*.py"))


def asked() -> set[str]:
    """Return the texts that the figures' code asks the table for."""
    calls = [
        node.args[0]
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "said"
    ]
    return {leaf.value for call in calls for leaf in ast.walk(call) if isinstance(leaf, ast.Constant) and leaf.value}


def test_the_table_has_every_text_that_is_asked_for():
    assert {text for text in asked() if isinstance(text, str)} - {" "} <= SPANISH.keys()


def test_no_word_is_shown_past_the_table():
    for file in FILES:
        labels = re.findall(r"(?:xlabel|ylabel|title|label)=r?\"([^\"]+)\"", file.read_text(encoding="utf-8"))
        assert not [label for label in labels if not re.fullmatch(r"\$.*\$|_\w*", label)], file.name


def test_translations_hold_the_same_values():
    for english, spanish in SPANISH.items():
        assert re.findall(r"{\w+[^}]*:[^}]*}", english) == re.findall(r"{\w+[^}]*:[^}]*}", spanish)


def test_a_language_is_chosen_for_a_while_or_for_good():
    def spoken():
        ax = Figure().add_subplot()
        plot.gaps(ax, {})
        return ax.get_xlabel()

    assert spoken() == "time (iterations)"
    with plot.language("es"):
        assert spoken() == "tiempo (iteraciones)"
        with plot.language("en"):
            assert said("loss") == "loss"
        assert said("suggested: {rate:.2g}", rate=0.1) == "sugerida: 0.1"
    assert spoken() == "time (iterations)"
    plot.language("es")
    assert said("loss") == "pérdida"
    plot.language("en")
    assert said("loss") == "loss"
    with pytest.raises(ValueError, match="name must be one of 'en', 'es', but it is 'fr'"):
        plot.language("fr")
