"""`inercia explore`: the page that shows iterates beside their flow, written to a file and opened."""

import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from inercia.explorer.page import page


def explore(output: Path | None = None, opened: Annotated[bool, arg(name="open")] = True) -> None:
    """Open the explorer: a page on which learning rate, decay, dt and start are dragged, beside the flow.

    Args:
        output: Write the page to this .html file; it needs neither inercia nor the network. By default a temporary one.
        opened: Whether to open it in the browser.
    """
    file = Path(tempfile.mkdtemp(prefix="inercia-")) / "explorer.html" if output is None else output
    if file.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--output must be a file whose name ends in .html, but it is {file}.")
    if file.is_dir():
        raise ValueError(f"--output must be a file, but {file} is a folder.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(), encoding="utf-8")
    print(file)
    if opened and not webbrowser.open(file.resolve().as_uri()):
        print("There is no browser here that could be opened: open the file in one.")
