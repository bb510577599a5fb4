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
ELSEWHERE = {"own_method.md", "training_practice.md"}


def at_the_edge(names, out):
    path, flow = names["path"], names["flow"]
    assert path.observed["sharpness"][-1, 0] == pytest.approx(2, rel=0.1)
    assert flow.observed["mean_loss"][-1] == pytest.approx(path.loss[-1], rel=0.05)
    assert "central flow, order 1/2 in eps: the gap shrinks as eps^0.51" in out


def saved_done_and_shared_out(names, out):
    assert "the same True" in out
    assert int(names["result"].history.step[-1]) == 30 * 22
    assert (Path(names["folder"]) / "660").is_dir()


#: Page -> what its examples print, or a check of what they leave: (names, printed).
SAYS = {
    "devices.md": saved_done_and_shared_out,
    "edge_of_stability.md": at_the_edge,
    "flows.md": "no order: the update is not smooth (sign)",
    "getting_started.md": "order 1: the gap shrinks as dt^",
    "large_data.md": "the same: True",
    "noise.md": "formula 0.05",
}


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
    shown = re.findall(r"^::: inercia\.([\w.]+)$", reference, re.MULTILINE)
    modules = {"plot", "methods.parts", "training.hosts", "estimator.MLPClassifier", "estimator.MLPRegressor"}
    assert sorted(shown) == sorted({*ia.__all__, *modules})


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    scripts = {name for name in SITE if name.startswith(("analysis/", "notebooks/"))}
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
def test_the_examples_of_a_page_run(name, capsys):
    code = "\n".join(re.findall(r"```python\n(.*?)```", WRITTEN[name], re.DOTALL))
    names = {"__name__": "page"}
    exec(compile(code, name, "exec"), names)
    says, out = SAYS.get(name, ""), capsys.readouterr().out
    if callable(says):
        says(names, out)
    else:
        assert says in out
