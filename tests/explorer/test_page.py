"""The page is one file that loads nothing, in two languages, and answers to pointer, keys and address."""

import json
import re

import pytest
from browsers import in_browser

from inercia.commands import main as cli
from inercia.explorer import page as pages
from inercia.explorer.page import ROOT, in_order, joined, page

WORDS = json.loads((ROOT / "strings.js").read_text("utf-8").split("STRINGS = ")[1].rstrip().removesuffix(";"))


def run(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(list(map(str, arguments)))
    return left.value.code


def test_one_file_that_loads_nothing():
    text = page()
    assert len(text.encode()) < 300_000
    assert not re.search(
        r"https?://|<link[^>]+href=(?!\"data:)|<script[^>]+src|@import|url\(|fetch\(|XMLHttp|import\(", text
    )
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)
    assert text.count("<script") == text.count("</script>") == 1


def test_no_file_is_left_out_or_long():
    used = set(in_order("main.js"))
    assert used == {file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*.js")}
    for file in (*ROOT.rglob("*.js"), *ROOT.glob("*.css"), *ROOT.glob("*.html")):
        assert len(file.read_text("utf-8").splitlines()) <= 300, file


def test_both_languages_have_every_word():
    english, spanish = WORDS["en"], WORDS["es"]
    assert english.keys() == spanish.keys()
    assert all(word.strip() for words in WORDS.values() for word in words.values())
    for key in english:
        assert re.findall(r"\{\w+\}", english[key]) == re.findall(r"\{\w+\}", spanish[key]), key
    scripts = joined("main.js")
    used = set(re.findall(r'data-(?:text|label)="(\w+)"', page())) | set(re.findall(r"words\.(\w+)", scripts))
    assert used <= english.keys(), used - english.keys()
    built = ("slider_", "story_", "bound_")
    names = {
        "own",
        "ravine",
        "wells",
        "valley",
        "quadratic",
        "neuron",
        "gd",
        "momentum",
        "lecture",
        "nesterov",
        "nesterov-k",
    }
    verdicts = {"stable_reading", "unstable_reading", "saddle_reading"}
    rest = {key for key in english if not key.startswith(built)} - used - names - verdicts - {"rmsprop", "adam"}
    assert not rest, f"words that the page never shows: {rest}"


def test_modules_that_cannot_be_joined_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "a.js").write_text('import { two } from "./b.js";\nconst one = two;\n')
    (tmp_path / "b.js").write_text("const one = 1;\nexport const two = 2;\n")
    with pytest.raises(ValueError, match=r"different names, but b\.js and a\.js declare one"):
        joined("a.js")
    (tmp_path / "b.js").write_text("const two = 2;\n")
    with pytest.raises(ValueError, match=r"a\.js imports two, which b\.js does not export"):
        joined("a.js")
    (tmp_path / "b.js").write_text('import { one } from "./a.js";\nexport const two = 2;\n')
    (tmp_path / "a.js").write_text('import { two } from "./b.js";\nexport const one = two;\n')
    with pytest.raises(ValueError, match=r"in a circle"):
        joined("a.js")


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    cli.main(["explore", "--output", str(tmp_path / "new" / "e.html"), "--no-open"])
    assert (tmp_path / "new" / "e.html").read_text("utf-8") == page()
    assert not opened
    cli.main(["explore"])
    assert opened[0].startswith("file://")
    assert opened[0].endswith("explorer.html")
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    cli.main(["explore", "--output", str(tmp_path / "f.html")])
    assert "There is no browser here" in capsys.readouterr().out


def test_a_wrong_path_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    for path, sentence in (
        (tmp_path / "page.txt", "--output must be a file whose name ends in .html"),
        (tmp_path / "folder.html", "--output must be a file, but"),
        (tmp_path / "file" / "page.html", "File exists"),
    ):
        assert run("explore", "--output", path, "--no-open") == 2
        assert sentence in capsys.readouterr().err


# A browser without a window draws no frames while its clock is driven: they come by the clock.
FRAMES = "<script>window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 16);</script>"
ACT = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
const settled = () => new Promise((done) => setTimeout(done, 400)); // the address is written after a third of a second
const fire = (element, type, x, y) => element.dispatchEvent(
  new PointerEvent(type, { clientX: x, clientY: y, pointerId: 1, bubbles: true, buttons: 1 }));
function drag(selector, dx, dy) {
  const handle = document.querySelector(selector);
  handle.setPointerCapture = () => {};
  const box = handle.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  fire(handle, "pointerdown", x, y);
  fire(handle, "pointermove", x + dx, y + dy);
  fire(handle, "pointerup", x + dx, y + dy);
}
const key = (name, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const seen = () => ({
  hash: location.hash, title: document.title,
  theme: document.documentElement.dataset.theme, lang: document.documentElement.lang,
  ...Object.fromEntries([...document.querySelectorAll(".panel")].map((panel) =>
    [panel.id, panel.querySelector("output")?.textContent ?? ""])),
});
addEventListener("load", async () => {
  await settled();
  const log = [seen()];
  const steps = [
    () => drag("#paths .handle", 60, 20),
    () => drag("#diagram .handle", -40, 10),
    () => key("ArrowRight", document.querySelector("#paths .handle")),
    () => key("h"),
    () => key("m"),
    () => key("l"),
    () => document.querySelector("#language").click(),
    () => document.querySelector("#theme").click(),
    () => key("r"),
  ];
  for (const step of steps) {
    step();
    await settled();
    log.push(seen());
  }
  document.body.textContent = JSON.stringify({ errors, log });
});
</script>
</body>
"""


def test_the_page_answers(tmp_path):
    text = in_browser(
        page().replace("</body>", FRAMES + ACT), tmp_path, address="#theme=light&lang=en", milliseconds=30_000
    )
    found = json.loads(re.search(r"<body>(\{.*\})", text, re.DOTALL)[1].removesuffix("</body>").replace("&amp;", "&"))
    start, dragged, aimed, nudged, halved, method, loss, spanish, dark, reset = found["log"]
    assert found["errors"] == []
    assert start["gap"] == "order 1.02"
    assert start["diagram"] == "aλ = 1.22, bound 38"
    assert "x=" in dragged["hash"]
    assert "y=" in dragged["hash"]
    assert dragged["paths"] != start["paths"]
    assert {"a", "b"} <= set(re.findall(r"(\w+)=", aimed["hash"]))
    assert aimed["multipliers"] != dragged["multipliers"]
    assert nudged["hash"] != aimed["hash"]
    assert "dt=0.5" in halved["hash"]
    assert "method=lecture" in method["hash"]
    assert "loss=valley" in loss["hash"]
    assert (spanish["lang"], spanish["title"]) == ("es", "explorador de inercia")
    assert (start["theme"], dark["theme"]) == ("light", "dark")
    assert reset["gap"] == "orden 1.02"


def test_an_address_is_read_and_nonsense_in_it_is_not(tmp_path):
    address = "#loss=ravine&method=lecture&a=0.055&b=2&dt=nan&x=-2&y=0.5&evil=1&lang=es&theme=blue"
    text = in_browser(page().replace("</body>", FRAMES + "</body>"), tmp_path, address=address)
    assert '<html lang="es"' in text
    assert "aλ = 1.1, cota 1" in text
    assert ">|μ| = 1.0" in text
