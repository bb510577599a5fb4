"""Write the methods' table from the factories, the README's of questions from docs/: python tests/readme_table.py."""

import re
from pathlib import Path

import inercia as ia

ROOT = Path(__file__).parents[1]
METHODS, QUESTIONS, README = ROOT / "docs/methods.md", ROOT / "docs/which_function.md", ROOT / "README.md"
HEAD = "| method | update | flow | measured order |\n|---|---|---|---|\n"
ASKED = "| question | function |\n|---|---|\n"


def table() -> str:
    """Return the table of docs/methods.md."""
    rows = [row for factory in ia.METHODS.values() for row in factory.rows]
    return HEAD + "".join(f"| `{call}` | {update} | {flow} | {order} |\n" for call, update, flow, order in rows)


def questions() -> str:
    """Return the table of docs/which_function.md as the README has it, whose links go through docs/."""
    rows = QUESTIONS.read_text(encoding="utf-8").partition(ASKED)[2].partition("\n\n")[0].strip()
    return ASKED + re.sub(r"\]\(", "](docs/", rows) + "\n"


if __name__ == "__main__":
    for page, head, rows in ((METHODS, HEAD, table()), (README, ASKED, questions())):
        text = re.sub(re.escape(head) + r"(\|.*\n)*", lambda _, rows=rows: rows, page.read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")
