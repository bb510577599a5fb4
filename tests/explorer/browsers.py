"""What runs the explorer's JavaScript: a browser without a window, or Node for the arithmetic alone."""

import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def browser():
    """Return the path of a browser, or skip."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser to test the page in: none of {', '.join(BROWSERS)} is installed")
    return found


def node():
    """Return the path of Node, or skip."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node to run the page's arithmetic with")
    return found


def in_node(script):
    """Run a module and return what it printed."""
    done = subprocess.run(
        [node(), "--input-type=module", "-"], input=script, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_browser(html, folder, *, address="", milliseconds=5000):
    """Open a page in a browser; return its text as scripts leave it after `milliseconds` of the page's own time."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900", "--lang=en",
            f"--virtual-time-budget={milliseconds}", "--dump-dom", file.as_uri() + address,
        ],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
