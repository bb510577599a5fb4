"""The house: folders are the floors, and imports only go down."""

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import inercia

#: The packages, from the ground up; the modules beside them, which people import by name, stand on top.
FLOORS = [
    "core",
    "problems",
    "methods",
    "flows",
    "edge_of_stability",
    "comparison",
    "training",
    "plot",
    "estimator",
    "explorer",
    "commands",
]
ROOT = Path(inercia.__file__).parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(ROOT.rglob("*.py"))
    if file != ROOT / "__init__.py"
}


def imports(name: str) -> set[str]:
    """Return the modules of inercia that the file of module `name` imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "inercia":
            package = (node.module or "").removeprefix("inercia").lstrip(".")
            inner = {".".join([package, alias.name]).lstrip(".") for alias in node.names}
            found |= (inner & FILES.keys()) | ({package} if package and not inner <= FILES.keys() else set())
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("inercia.") for a in node.names if a.name.startswith("inercia.")}
    return found


GRAPH = {name: imports(name) for name in FILES}


def floor(name: str) -> int:
    return FLOORS.index(name.split(".", maxsplit=1)[0])


def test_every_folder_is_a_floor():
    assert {name.split(".")[0] for name in FILES} == set(FLOORS)


def test_imports_only_go_down():
    wrong = [f"{name} imports {used}" for name, uses in GRAPH.items() for used in uses if floor(used) > floor(name)]
    assert not wrong


def test_no_circles():
    done: set[str] = set()

    def visit(name, above):
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for used in GRAPH[name]:
                visit(used, [*above, name])
            done.add(name)

    for name in GRAPH:
        visit(name, [])


def test_no_module_is_shadowed():
    names = [name for name in FILES if not name.startswith("methods.")]
    assert not {name.split(".")[-1] for name in names} & set(inercia.__all__)
    for name in FILES:
        parent, _, last = f"inercia.{name}".rpartition(".")
        importlib.import_module(f"inercia.{name}")
        assert isinstance(getattr(importlib.import_module(parent), last), ModuleType), name


def test_tests_mirror_the_house():
    folder = Path(__file__).parent
    tested = {str(f.relative_to(folder).parent) for f in folder.rglob("test_*.py")} - {"."}
    assert tested == {name for name in FLOORS if (ROOT / name).is_dir()}


def test_no_private_import_between_modules():
    wrong = [
        f"{name}: {alias.name}"
        for name, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("inercia")
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__"
    ]
    assert not wrong


def test_a_method_is_one_file_of_at_most_200_lines():
    long = {name: len(f.read_text().splitlines()) for name, f in FILES.items() if name.startswith("methods")}
    assert max(long.values()) <= 200, long


def test_only_the_machinery_calls_the_ode_solver():
    calls = {name for name, file in FILES.items() if re.search(r"scipy(\.| import )integrate", file.read_text())}
    assert calls == {"flows.integration", "flows.scipy_rk"}
