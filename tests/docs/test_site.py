"""The pages become a site without network and without a warning, and people can finish README."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def build(source: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """As ``make docs`` builds the site."""
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(r"\$\(BIN\)/python (-m sphinx .*) -d build/doctrees docs build/docs", makefile)
    assert found
    options = [*found.group(1).split(), "-d", str(out / "doctrees"), str(source), str(out / "html")]
    command = [sys.executable, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_site_builds_without_a_warning_and_opens_from_files(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    result = build(ROOT / "docs", tmp_path)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages == {path.stem for path in (tmp_path / "html").glob("*.html")} - {"genindex", "search"}
    text = (tmp_path / "html" / "start.html").read_text("utf-8")
    loaded = re.findall(r"<(?:link|script|img)\b[^>]*?(?:href|src)=\"([^\"]+)\"", text)
    assert len(loaded) > 5
    assert not [one for one in loaded if one.startswith(("http", "/"))]
    assert not stand_out(tmp_path / "html")


def stand_out(site: Path) -> list[tuple[str, int]]:
    """Pages wider than their window, with its width; none is looked at where there is no browser."""
    browsers = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, browsers)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return []
    if browser is None:
        return []
    found = []
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width in (420, 1320, 1400):
            tab = chromium.new_page(viewport={"width": width, "height": 900})
            for page in ("index", "keys"):
                tab.goto((site / f"{page}.html").as_uri(), timeout=120_000)
                if tab.evaluate("document.documentElement.scrollWidth") > width:
                    found.append((page, width))
        chromium.close()
    return found


def test_broken_links_end_the_build_each_by_name(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    source, wrong = tmp_path / "docs", ("nowhere.md", "#no-heading", "index.md#no-other", "none.png")
    shutil.copytree(ROOT / "docs" / "_static", source / "_static")
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    links = [f"{'!' if to.endswith('png') else ''}[x]({to})" for to in wrong]
    (source / "index.md").write_text("\n\n".join(["# Title", "[x](#title)", *links]))
    result = build(source, tmp_path)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "WARNING" in line]
    assert len(said) == len(wrong), said
    assert all(to.split("#")[-1] in result.stderr for to in wrong)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_of_the_site_lead_somewhere(page: str) -> None:
    links = LINK.findall(FENCE.sub("", (ROOT / page).read_text("utf-8")))
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        assert (ROOT / name).exists(), link
        assert not anchor or anchor in anchors(ROOT / name), link


def test_readme_can_be_finished() -> None:
    """At most 200 lines, of which none is longer than a screen is wide, but for tables and commands."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 200
    prose = [line for line in lines if not line.startswith(("|", "    ", "!["))]
    assert max(map(len, prose)) <= 140
