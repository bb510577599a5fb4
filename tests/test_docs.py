"""The site: public names are in its reference, pages in its navigation, links lead somewhere, examples run."""

import importlib.util
import re
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

import inercia as ia

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Pages whose examples another test runs, with more to say of what they print.
ELSEWHERE = {"own_method.md"}


def site_of():
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return pages


PAGES = site_of()
WRITTEN = {file.relative_to(DOCS).as_posix(): file.read_text(encoding="utf-8") for file in sorted(DOCS.rglob("*.md"))}
SITE = {name: PAGES.linked(text, f"docs/{name}", name) for name, text in WRITTEN.items()} | PAGES.generated()
OTHERS = {*PAGES.PICTURES, "explorer_page.html"}
RUN = sorted(name for name, text in WRITTEN.items() if "```python\n" in text and name not in ELSEWHERE)


def test_every_public_name_is_in_the_reference():
    reference = "\n".join(text for name, text in WRITTEN.items() if name.startswith("reference/"))
    shown = re.findall(r"^::: inercia\.(\w+)$", reference, re.MULTILINE)
    assert sorted(shown) == sorted({*ia.__all__, "plot", "estimator"})


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    scripts = {name for name in SITE if name.startswith("analysis/")}
    assert sorted(listed) == sorted(SITE.keys() - scripts)


@pytest.mark.parametrize("name", SITE)
def test_every_link_leads_to_a_page(name):
    text = re.sub(r"```.*?```", "", SITE[name], flags=re.DOTALL)
    for link in map("".join, re.findall(r"\]\(([^)\s#]+)|(?:src|href)=\"([^\"#]+)\"", text)):
        target = normpath(join(dirname(name), link))
        there = target in OTHERS or target.replace(".html", ".md") in SITE or (DOCS / target).is_file()
        assert link.startswith("https://") or there, link


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run(name):
    code = "\n".join(re.findall(r"```python\n(.*?)```", WRITTEN[name], re.DOTALL))
    exec(compile(code, name, "exec"), {"__name__": "page"})
