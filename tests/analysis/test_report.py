"""The report, made once by its command: every number traced, and the page as a browser shows it."""

import html
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import troubled

from sparse_rl.analysis import figures, load, statistics, tables
from sparse_rl.analysis.report import FAILED
from sparse_rl.analysis.scores import final_values
from sparse_rl.records import results

COMMAND = "python -m sparse_rl.sweep width=16,32 'name=a & b'"
SIZES = {420: 850, 1000: 800, 1400: 900}
"""Width of a window → its height."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = troubled.study(tmp_path_factory.mktemp("studies"))
    results.add_words(study / results.COMMANDS, COMMAND)
    return study


@pytest.fixture(scope="module")
def report(hurt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, as a user runs it."""
    out = tmp_path_factory.mktemp("report")
    command = [sys.executable, "-m", "sparse_rl.report", str(hurt), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "report.html"


def tables_in(text: str) -> list[pd.DataFrame]:
    """Tables of a page that name their rows."""
    found = []
    for body in re.findall(r"<table.*?</table>", text, re.S):
        lines = [
            [
                html.unescape(re.sub("<.*?>", "", cell))
                for cell in re.findall(r"<t[hd].*?</t[hd]>", line, re.S)
            ]
            for line in re.findall(r"<tr.*?</tr>", body, re.S)
        ]
        if "rows" in lines[0]:
            found.append(pd.DataFrame(lines[1:], columns=lines[0]))
    return found


def test_every_number_of_the_report_can_be_traced(hurt: Path, report: Path) -> None:
    """Each line of its tables, from the rows that its query finds."""
    text = report.read_text()
    assert FAILED not in text
    rows = load(hurt)
    traced = 0
    for table in tables_in(text):
        metrics = [name for name in table if name in rows and name in (*figures.METRICS, *tables.HEALTH)]
        for _, line in table.iterrows():
            cell = rows.query(str(line["rows"]))
            for metric in metrics:
                final = final_values(cell, metric)
                told = str(line[metric]).split(" ")[0]
                if final.empty:
                    assert told == ""
                    continue
                value = statistics.iqm(statistics.scores({"": final[metric].to_numpy()}))
                assert told == f"{float(value):.4g}"
                traced += 1
    assert traced > 60
    assert "36 runs on gymnax/Pendulum-v1; agent sac; 3 seeds." in text
    assert "32 of 36 runs ended done." in html.unescape(text)
    drawn = {path.stem for path in report.parent.glob("*.svg")}
    assert drawn == {path.stem for path in report.parent.glob("*.png")}
    assert {
        "scaling_gymnax_Pendulum-v1",
        "forest_gymnax_Pendulum-v1",
        "heat_map_gymnax_Pendulum-v1",
        "profiles_gymnax_Pendulum-v1",
    } <= drawn


def test_the_page_needs_nothing_beside_itself(report: Path) -> None:
    text = report.read_text()
    assert report.stat().st_size < 5_000_000
    assert not re.search(r"""(src|href|url\()=?["']?http""", text)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in policy[1]
    for link in re.findall(r'href="([^"#][^"]*)"', text):
        assert (report.parent / html.unescape(link)).exists(), link


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(report: Path) -> None:
    text = report.read_text()
    body = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    ids = Counter(re.findall(r'\bid="([^"]*)"', body))
    assert [name for name, count in ids.items() if count > 1] == []
    assert len(ids) > 50
    for name in re.findall(r'href="#([^"]*)"', body):
        assert name in ids


def test_it_says_what_was_run_as_the_records_tell(report: Path, hurt: Path) -> None:
    text = report.read_text()
    told = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert html.unescape(told["Command"]) == f"<code>{COMMAND}</code>"
    assert told["Commit"] == "e0c7e19"
    assert told["Date"] == "2026-11-22"
    assert told["Device"] == "cpu:cpu"
    assert told["Runs"] == "32 of 36 done"
    assert told["Budget"].startswith("6,000 env steps a run")
    assert html.unescape(told["Evaluation"]).startswith(
        "20 episodes, each action the policy's likeliest, every 500 env steps"
    )
    assert text.index("<dt>Command") < text.index('class="answer"') < text.index("<figure")


def test_every_figure_is_told_to_who_cannot_see_it(report: Path) -> None:
    alts = [html.unescape(alt) for alt in re.findall(r'<img alt="([^"]*)"', report.read_text())]
    assert len(alts) >= 11
    assert all(len(alt) > 20 for alt in alts)
    (scaling,) = (alt for alt in alts if alt.startswith("Return by width"))
    assert "sparsity 0.9: -1321 at width 16" in scaling


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        yield (chromium := started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        chromium.close()


Open = Callable[[int, str], Any]
"""Width of a window and colour scheme → the page in it."""


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Iterator[Open]:
    """Opens the page once per window; nothing is asked of a network, and no script fails."""
    tabs: dict[tuple[int, str], Any] = {}
    wrong: list[str] = []

    def tab_of(width: int, scheme: str = "light") -> Any:
        if (width, scheme) not in tabs:
            window = {"width": width, "height": SIZES[width]}
            context = browser.new_context(viewport=window, color_scheme=scheme, bypass_csp=True)
            context.set_default_timeout(120_000)  # beside other work
            tab = tabs[width, scheme] = context.new_page()
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.on("console", lambda said: wrong.extend([said.text] * (said.type == "error")))
            tab.on("request", lambda asked: wrong.extend([asked.url] * asked.url.startswith("http")))
            tab.goto(report.as_uri())
            tab.wait_for_selector("figure.drawn .panel .main-svg")
        return tabs[width, scheme]

    yield tab_of
    assert wrong == []


def draw_all(tab: Any) -> None:
    """Every figure comes near, and is drawn."""
    for figure in tab.query_selector_all("figure.plot"):
        figure.scroll_into_view_if_needed()
    tab.wait_for_function(
        "[...document.querySelectorAll('figure.plot')].every((f) => f.querySelector('.main-svg'))"
    )


@pytest.mark.parametrize("width", SIZES)
def test_nothing_stands_out_of_the_window_and_the_first_screen_answers(opened: Open, width: int) -> None:
    tab = opened(width, "light")
    for selector in (".answer", "figure.plot .panel"):
        box = tab.locator(selector).first.bounding_box()
        assert box["y"] + min(box["height"], 200) < SIZES[width], selector
    draw_all(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        tab.evaluate("(bar => bar.scrollWidth - bar.clientWidth)(document.querySelector('.bar nav'))")
        <= 0
    )
    out = tab.evaluate(
        """[...document.querySelectorAll("main *")].filter((e) => !e.closest(".frame, pre, svg") &&
        e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert out == []
    small = tab.evaluate(
        """[...document.querySelectorAll("main *")].filter((e) => e.offsetParent && e.innerText &&
        parseFloat(getComputedStyle(e).fontSize) < 11).length"""
    )
    assert small == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Open, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab = opened(1000, scheme)
    draw_all(tab)
    tab.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true })")
    found = axe.Axe().run(tab).response
    serious = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:3])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}


def traces(tab: Any, figure: str) -> Any:
    """What Plotly draws in a figure: level and kind of each trace that is visible."""
    return tab.evaluate(
        """(name) => [...document.querySelectorAll(`${name} .panel`)].flatMap((panel) => panel.data
        .filter((t) => t.visible)
        .map((t) => [t.meta.level, t.meta.kind, t.line?.color ?? t.marker?.color]))""",
        figure,
    )


def test_levels_and_runs_are_switched_and_a_click_leads_to_the_rows(opened: Open) -> None:
    name = "#figure-scaling_gymnax_Pendulum-v1"
    tab = opened(1000, "light")
    first = traces(tab, name)
    assert {level for level, _, _ in first} == {0, 1, 2}
    assert {kind for _, kind, _ in first} == {"cell"}
    tab.click(f'{name} .chips button:has-text("0.5")')
    assert {level for level, _, _ in traces(tab, name)} == {0, 2}
    assert tab.get_attribute(f'{name} .chips button:has-text("0.5")', "aria-pressed") == "false"
    tab.click(f'{name} .chips button:has-text("single runs")')
    assert (0, "run") in {(level, kind) for level, kind, _ in traces(tab, name)}
    click = """([name, kind]) => { const panel = document.querySelector(`${name} .panel`);
      const trace = panel.data.find((t) => t.visible && t.meta.kind === kind && t.customdata);
      panel.emit("plotly_click", { points: [{ customdata: trace.customdata[0] }] });
      return trace.customdata[0] }"""
    hover, target = tab.evaluate(click, [name, "cell"])
    assert hover.startswith("<b>width 16, sparsity 0</b>")
    assert "3 runs" in hover
    assert target == "cell-16-0"
    assert tab.locator("tr.chosen").count() == 3
    assert tab.locator("tr.chosen").first.is_visible()
    hover, target = tab.evaluate(click, [name, "run"])
    assert "seed " in hover
    assert tab.locator("tr.chosen").get_attribute("id") == target


def test_a_dark_page_has_light_lines_and_back(opened: Open) -> None:
    name = "#figure-scaling_gymnax_Pendulum-v1"
    tab = opened(1000, "dark")
    dark = [colour for level, _, colour in traces(tab, name) if level == 0][-1]
    tab.click("button.theme")
    light = [colour for level, _, colour in traces(tab, name) if level == 0][-1]
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    brightness = [sum(bytes.fromhex(colour[1:])) for colour in (dark, light)]
    assert brightness[0] > 400 > 200 > brightness[1]  # of 765


def test_tables_are_sorted_by_numbers(opened: Open) -> None:
    tab = opened(1000, "light")
    head = "#runs table:has(tr[id]) th:has-text('return_mean')"
    column = "[...document.querySelectorAll('#runs tr[id] td:nth-child(2)')].map((c) => c.textContent)"
    tab.click(f"{head} button")
    up = [float(text) for text in tab.evaluate(column) if text]
    assert up == sorted(up)
    assert len(up) == 33
    assert tab.evaluate(column)[-3:] == ["", "", ""]  # what has no score comes last, in both orders
    tab.click(f"{head} button")
    down = [float(text) for text in tab.evaluate(column) if text]
    assert down == up[::-1]
    assert tab.get_attribute(head, "aria-sort") == "descending"
    assert tab.evaluate(column)[-3:] == ["", "", ""]


def test_what_is_printed_has_no_folds_and_no_buttons(opened: Open) -> None:
    tab = opened(1000, "light")
    tab.emulate_media(media="print")
    try:
        assert not tab.locator(".bar").is_visible()
        assert not tab.locator(".chips").first.is_visible()
        assert tab.locator("details.facts dd").first.is_visible()
        assert tab.locator("figure.plot .panel").first.is_visible()
    finally:
        tab.emulate_media(media="screen")


def test_the_picture_stands_where_nothing_can_be_drawn(report: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(report.as_uri())
    assert tab.locator("figure.plot > img").first.is_visible()
    context.close()
