"""The explorer's page: modules of JavaScript, a style sheet and a frame, joined into one HTML text.

    page = frame with { style }, { modules in the order of their imports }

A browser does not load modules beside a page that was opened from a file, so that they are joined: each stands once,
after those that it imports, without its `import` and `export`. They share one scope then, and a name that two of them
declare is refused. The page loads nothing: no fonts, no libraries, no network.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
_DECLARED = re.compile(r"^(?:export )?(?:const|let|class|function|async function) (?:\{([^}]*)\}|(\w+))", re.MULTILINE)
_EXPORTED = re.compile(r"^export (?:const|let|class|function|async function) (\w+)", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_STYLE, _SCRIPT, _OWN = "/* style */", "/* script */", "<!-- own -->"


def page(own: str | None = None) -> str:
    """Return the explorer as the text of one HTML file.

    Args:
        own: a sampled loss, as `SampledLoss.as_json` gives it, which the page then shows first.

    Example:
        >>> text = page()
        >>> text.startswith("<!doctype html>"), len(text.encode()) < 300_000
        (True, True)
    """
    frame = (ROOT / "index.html").read_text(encoding="utf-8")
    style = (ROOT / "style.css").read_text(encoding="utf-8")
    sample = "" if own is None else f'<script type="application/json" id="own">{own}</script>'
    return frame.replace(_STYLE, style).replace(_OWN, sample).replace(_SCRIPT, joined("main.js"))


def joined(*entries: str) -> str:
    """Return modules of the explorer with all that they import, as one script.

    Args:
        entries: the modules' files below this folder, for example "arithmetic/experiment.js".

    Raises:
        ValueError: imports in a circle, a name that the imported module does not export, or one that two declare.

    Example:
        >>> script = joined("arithmetic/noise.js")
        >>> "import" in script, "export" in script
        (False, False)
    """
    modules = in_order(*entries)
    owners: dict[str, str] = {}
    for name, text in modules.items():
        for group, single in _DECLARED.findall(text):
            for declared in [single] if single else [part.strip() for part in group.split(",")]:
                if declared in owners:
                    raise ValueError(
                        f"modules must declare different names, but {owners[declared]} and {name} declare {declared}."
                    )
                owners[declared] = name
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in modules.values())


def in_order(*entries: str) -> dict[str, str]:
    """Return the text of modules and of all that they import, by file, each after those that it imports."""
    modules: dict[str, str] = {}

    def visit(file: Path, above: tuple[Path, ...]) -> None:
        name = file.relative_to(ROOT).as_posix()
        if file in above:
            raise ValueError(f"modules must not import in a circle, but {name} does.")
        if name in modules:
            return
        text = file.read_text(encoding="utf-8")
        for names, source in _IMPORT.findall(text):
            used = (file.parent / source).resolve()
            visit(used, (*above, file))
            missing = {part.strip() for part in names.split(",")} - {"", *_EXPORTED.findall(used.read_text("utf-8"))}
            if missing:
                raise ValueError(f"{name} imports {', '.join(sorted(missing))}, which {used.name} does not export.")
        modules[name] = text

    for entry in entries:
        visit((ROOT / entry).resolve(), ())
    return modules
