"""What mkdocs makes of the repository: pages that lie outside docs/, and links between both.

    a page in docs/ links to the repository's files, as in `../analysis/momentum.py`, so that it also reads well where
    it lies; on the site each of these files is a page, and the link leads there

The results of the benchmarks, the changelog and the lecture's scripts stand once, where they are written; the explorer
is joined by its own `page()`; the notebooks are shown as they are written.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

ROOT = Path(__file__).parents[1]

#: File of the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "README.es.md": "lecture.es.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "analysis/README.md": "gallery.md",
    "src/inercia/explorer/index.html": "explorer_page.html",  # the frame, for what `page()` makes of it
    "benchmarks/README.md": "benchmarks_notes.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    **{f"analysis/{file.name}": f"analysis/{file.stem}.md" for file in sorted((ROOT / "analysis").glob("*.py"))},
    **{
        f"docs/notebooks/{file.name}": f"notebooks/{file.stem}.md"
        for file in sorted((ROOT / "docs" / "notebooks").glob("*.py"))
    },
}
#: Pictures outside docs/, which stand on the site where they stand in the repository.
PICTURES = [file.relative_to(ROOT).as_posix() for file in sorted((ROOT / "benchmarks" / "figures").glob("*.png"))]
_LINK = re.compile(r'(\]\(|(?:src|href)=")([^)\s"#]+)')


def generated() -> dict[str, str]:
    """Return page of the site -> Markdown, for all that is written outside docs/."""
    made = {}
    for source, page in PAGES.items():
        if (ROOT / "docs" / page).exists() or not page.endswith(".md"):
            continue
        text = (ROOT / source).read_text(encoding="utf-8")
        made[page] = linked(script(source, text) if source.endswith(".py") else text, source, page)
    return made


def script(name: str, text: str) -> str:
    """Return a script as a page: its path, its text."""
    return f"---\nsearch:\n  exclude: true\n---\n\n# {Path(name).stem}\n\n`{name}`\n\n```python\n{text}```\n"


def linked(text: str, source: str, page: str) -> str:
    """Return the text of the file `source` of the repository with its links as the page `page` needs them."""

    def lead(match: re.Match) -> str:
        if "://" in match[2] or match[2].startswith("mailto:"):
            return match[0]
        file = normpath(join(dirname(source), match[2]))
        target = PAGES.get(file, file.removeprefix("docs/"))
        if match[1].startswith(("src", "href")):  # raw HTML is not seen by mkdocs: as the browser needs it
            target = re.sub(r"\.md$", ".html", target)
        return match[1] + relpath(target, dirname(page) or ".")

    return _LINK.sub(lead, text) if not source.endswith(".py") else text


def on_files(files, config):
    """Add the generated pages, the pictures outside docs/ and the explorer; called by mkdocs."""
    from mkdocs.structure.files import File  # noqa: PLC0415  the site's alone

    from inercia.explorer.page import page as explorer  # noqa: PLC0415

    for name, text in {**generated(), "explorer_page.html": explorer()}.items():
        files.append(File.generated(config, name, content=text))
    for name in PICTURES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead the links of a page in docs/ to the site's pages; called by mkdocs."""
    name = page.file.src_uri
    return markdown if page.file.generated_by else linked(markdown, f"docs/{name}", name)
