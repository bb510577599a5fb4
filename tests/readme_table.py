"""Write the README's table of methods anew from the factories: python tests/readme_table.py."""

import re
from pathlib import Path

import inercia as ia

README = Path(__file__).parents[1] / "README.md"
HEAD = "| method | update | flow | measured order |\n|---|---|---|---|\n"


def table() -> str:
    rows = [row for factory in ia.METHODS.values() for row in factory.rows]
    return HEAD + "".join(f"| `{call}` | {update} | {flow} | {order} |\n" for call, update, flow, order in rows)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: table(), text), encoding="utf-8")
