"""The house: a module imports only modules that stand before it in this list."""

import ast
import re
from pathlib import Path

import inercia

FLOORS = [
    # words
    ["check", "tree", "path", "progress"],
    # the problem
    ["method", "network", "risk", "problems", "data", "read", "shards", "sampler"],
    # methods
    [
        "methods.sgd",
        "methods.momentum",
        "methods.nesterov",
        "methods.rmsprop",
        "methods.scalar_rmsprop",
        "methods.adagrad",
        "methods.adam",
        "methods.adamw",
        "methods.nadam",
        "methods.lion",
        "methods",
    ],
    # machinery
    ["convert", "quadratic", "smooth", "interpolate", "iterate", "runge_kutta", "integrate"],
    ["limit", "modified", "stability", "noise", "threshold"],
    ["precondition", "curvature", "complementarity", "central"],
    # runs
    ["compare", "edge", "order", "mesh", "interrupt", "hosts", "checkpoint", "stream", "train"],
    # faces
    ["plot", "demo", "estimator", "cli"],
]
ORDER = [module for floor in FLOORS for module in floor]
ROOT = Path(inercia.__file__).parent


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "inercia":
            inner = (node.module or "").removeprefix("inercia").lstrip(".")
            if inner:
                found.add(inner)
            else:
                found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("inercia.") for a in node.names if a.name.split(".")[0] == "inercia"}
    return found


def modules() -> dict[str, Path]:
    names = {}
    for file in sorted(ROOT.rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            names[name] = file
    return names


def test_every_module_has_a_floor():
    assert sorted(modules()) == sorted(ORDER)


def test_imports_only_go_down():
    wrong = [
        f"{name} imports {used}"
        for name, file in modules().items()
        for used in imports(file)
        if ORDER.index(used) >= ORDER.index(name)
    ]
    assert not wrong


def test_a_method_is_one_file_of_at_most_200_lines():
    long = {name: len(f.read_text().splitlines()) for name, f in modules().items() if name.startswith("methods")}
    assert max(long.values()) <= 200, long


def test_only_the_machinery_calls_the_ode_solver():
    calls = {name for name, file in modules().items() if re.search(r"scipy(\.| import )integrate", file.read_text())}
    assert calls == {"integrate", "runge_kutta"}
