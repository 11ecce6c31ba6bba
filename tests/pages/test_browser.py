"""In a real browser: JupyterLab runs the first notebook, and the built book is readable, even on a phone."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import wait_for

from gluon_bn.workers.parameter_server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.browser]
TOP = Path(__file__).resolve().parents[2]
FIRST = "01_batch_norm_from_scratch"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def missing(what, remedy):
    message = f"{what} is not installed; {remedy}"
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright", "pip install -r requirements/book.txt (Python 3.10 or later)")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        missing("Chromium", "on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


# JupyterLab


@pytest.fixture
def lab(tmp_path):
    """JupyterLab as `make lab` starts it, on a copy of the first notebook without outputs; its address."""
    import nbformat

    import notebooks  # tools/notebooks.py

    notebooks.prepare()
    notebook = nbformat.read(str(TOP / "notebooks" / f"{FIRST}.ipynb"), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, str(tmp_path / "notebooks" / f"{FIRST}.ipynb"))
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)  # all cells on the page, not only those in view
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    port, token = free_port("127.0.0.1"), "a-token-for-this-test"
    options = ["--no-browser", f"--port={port}", f"--IdentityProvider.token={token}"]
    options += ["--allow-root"] * (os.geteuid() == 0)
    planned = subprocess.run(
        ["make", "-n", "lab", f"ARGS={' '.join(options)}"], cwd=TOP, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    (command,) = [line for line in planned.splitlines() if "-m jupyterlab" in line]
    command = command.replace(".venv/bin/python", shlex.quote(sys.executable))
    environment = {
        **os.environ,
        "GLUON_BN_EPOCHS": "1",
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(
            lambda: answers(f"http://127.0.0.1:{port}/api?token={token}"),
            60,
            lambda: (tmp_path / "lab.log").read_text(),
        )
        yield f"http://127.0.0.1:{port}/lab/tree/{FIRST}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def test_jupyterlab_runs_the_first_notebook_and_its_curve_grows(browser, lab):
    page = browser.new_page(viewport=DESK)
    page.goto(lab)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.get_by_text(re.compile(r"^Python 3 .*\| Idle$")).wait_for(timeout=60_000)  # before that, Run does nothing
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    wait_for(
        lambda: cells.first.locator(".jp-InputPrompt").inner_text().strip() != "[ ]:",
        30,
        lambda: "JupyterLab has not begun to run the cells",
    )
    # JupyterLab shows an error as it shows what is printed to stderr: neither is welcome
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]')

    def said():
        return "\n".join(errors.all_inner_texts()) or page.locator(".jp-InputPrompt").all_inner_texts()

    # the first cell that trains: its picture is there, and another one follows, while the cell is still running
    training = cells.filter(has_text="histories = {")
    picture = training.locator(".jp-OutputArea-output img, .jp-OutputArea-output svg")
    pictures = set()

    def see():
        if errors.count():
            return True
        if picture.count() and "*" in training.locator(".jp-InputPrompt").inner_text():
            pictures.add(picture.first.evaluate("node => node.src || node.outerHTML"))
        return len(pictures) >= 2

    wait_for(see, 300, said)
    last = cells.last.locator(".jp-InputPrompt")
    wait_for(lambda: errors.count() or last.inner_text().strip("[]: \n").isdigit(), 600, said)
    assert errors.count() == 0, said()
    assert last.inner_text().strip() == f"[{cells.count()}]:"

    # the panel: moving a control changes the picture below it
    panel = cells.filter(has_text="panel.show()")
    picture = panel.locator(".jp-OutputArea-output img, .jp-OutputArea-output svg").last
    before = picture.evaluate("node => node.src || node.outerHTML")
    handle = panel.locator(".noUi-handle").first
    handle.focus()
    handle.press("ArrowRight")
    wait_for(
        lambda: picture.evaluate("node => node.src || node.outerHTML") != before,
        30,
        lambda: "the picture does not follow the slider",
    )
    page.close()


# The book


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The book's folder."""
    try:
        import jupyter_book  # noqa: F401
        import ziamath  # noqa: F401
    except ImportError:
        missing("jupyter-book", "pip install -r requirements/book.txt (Python 3.10 or later)")
    import book as program  # tools/book.py

    out = tmp_path_factory.mktemp("book") / "html"
    assert program.main([out]) == 0
    return out


@pytest.fixture(scope="module")
def book(built):
    """The address of the book on a local server, and its pages."""
    import book as program

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(built)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pages = ["index.html", *(f"{page}.html" for part in program.pages().values() for page in part)]
    assert f"notebooks/{FIRST}.html" in pages and f"{program.ASSIGNMENT}.html" in pages
    yield f"http://127.0.0.1:{server.server_port}/", pages
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


UNFOLD = "document.querySelectorAll('details').forEach(details => details.open = true)"

# Elements that are cut off or scroll sideways; folded parts are opened first, and the page then fits their tables.
TOO_WIDE = """async () => {
    document.querySelectorAll("details").forEach(details => details.open = true);
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    return [...document.querySelectorAll(".bd-article-container *, body")].filter(e => {
        if (getComputedStyle(e).display === "inline" || !e.clientWidth || e.closest("svg, i")) return false;
        const beyond = e.getBoundingClientRect().right > innerWidth + 1;
        return beyond || (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible");
    }).map(e => `${e.outerHTML.slice(0, 80)}: ${e.scrollWidth} > ${e.clientWidth}`);
}"""


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_every_page_of_the_book_is_readable_and_quiet(browser, book, width):
    address, pages = book
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints, elsewhere = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("data:", address)) or elsewhere.append(request.url))
    for name in pages:
        page.goto(address + name)
        assert page.locator("h1").count() >= 1, name
        assert page.evaluate(TOO_WIDE) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is too wide"
        assert not re.search(r"\$\$|\\(frac|sqrt|gamma|hat|begin)\b", page.locator("article").inner_text()), name
        broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.outerHTML)"
        assert page.evaluate(broken) == [], name
        silent = "[...document.querySelectorAll('article img')].filter(i => i.alt.length < 20).map(i => i.outerHTML)"
        assert page.evaluate(silent) == [], f"figures without an alternative text on {name}"
        # at 72 dots per inch, labels are 10 pixels high
        shrunk = "[...document.querySelectorAll('article img')].filter(i => i.width && i.width < 0.45 * i.naturalWidth)"
        assert page.evaluate(f"{shrunk}.map(i => i.alt)") == [], f"labels too small to read on {name}"
    assert complaints == [] and elsewhere == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, book, scheme):
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("axe", "pip install -r requirements/book.txt (Python 3.10 or later)")
    address, _ = book
    page = browser.new_page(viewport=DESK, color_scheme=scheme)
    for name in ("index.html", f"notebooks/{FIRST}.html", "notebooks/07_todays_textbook.html", "docs/claims.html"):
        page.goto(address + name)
        # while the theme's colours fade in, they have no contrast
        page.evaluate("Promise.all(document.getAnimations().map(animation => animation.finished))")
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == [], name
    page.close()


def test_a_search_shows_excerpts_without_a_server(browser, built):
    page = browser.new_page(viewport=DESK)
    page.goto(f"{built.as_uri()}/search.html?q=momentum")
    page.locator("#search-results li p.context", has_text="weighs the old value").first.wait_for(timeout=20_000)
    page.close()


def test_the_assignment_is_in_the_book_and_its_answers_are_not(browser, book):
    address, pages = book
    page = browser.new_page(viewport=DESK)
    page.goto(address + "index.html")
    page.locator(".sd-card", has_text="Do the exercises").click()
    page.get_by_role("heading", level=1, name="Batch normalization: exercises").wait_for()
    text = page.locator("article").inner_text()
    assert "YOUR CODE HERE" in text and "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
    assert not any("answers" in name for name in pages)
    page.close()


def test_a_figure_of_two_panels_is_stacked_on_a_phone(browser, book):
    address, _ = book
    for screen, shown in ((PHONE, True), (DESK, False)):
        page = browser.new_page(viewport=screen)
        page.goto(address + "notebooks/02_why_normalize.html")
        assert not page.locator(".cell_output").first.is_visible()
        page.evaluate(UNFOLD)
        pieces = page.locator(".panels").first.locator("> svg")
        boxes = [piece.bounding_box() for piece in pieces.all()]
        assert len(boxes) > 1 and all(bool(box) == shown for box in boxes)
        assert page.locator("img.stacked").first.is_visible() != shown
        if shown:
            assert all(box["x"] + box["width"] <= 390 and box["width"] > 200 for box in boxes)
            assert sorted(box["y"] for box in boxes) == [box["y"] for box in boxes]
            page.goto(address + "notebooks/05_how_far_can_the_learning_rate_go.html")
            assert page.locator(".panels > svg:has(> svg + svg)").count() >= 5  # with labels of the first panel
        page.close()


def test_the_code_is_folded_on_a_phone(browser, book):
    address, _ = book
    page = browser.new_page(viewport=PHONE)
    page.goto(address + "notebooks/02_why_normalize.html")
    code = page.locator(".cell:not(.tag_hide-input) .cell_input").first
    assert not code.is_visible()
    page.get_by_text("Code", exact=True).first.click()
    code.wait_for(state="visible")
    page.close()


def test_a_wide_table_is_turned_on_a_phone(browser, book):
    address, _ = book
    found = []
    for screen, columns in ((DESK, 6), (PHONE, 4)):
        page = browser.new_page(viewport=screen)
        page.goto(address + "README.html")
        table = page.locator("table", has_text="s/epoch")
        assert table.locator("tr").first.locator("th, td").count() == columns
        found.append(
            table.evaluate("table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))")
        )
        page.close()
    assert found[1] == list(map(list, zip(*found[0])))


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"gamma": -1.5, "beta": 2.0},
        {"offset": -3.0, "scale": 0.25},
        {"batch_size": 2},
        {"gamma": 2.0, "beta": -3.0, "batch_size": 77, "offset": 4.0, "scale": 2.0},
    ],
    ids=str,
)
def test_the_controls_on_the_page_compute_what_the_package_computes(browser, book, setting):
    from gluon_bn.experiments import panel

    address, _ = book
    page = browser.new_page(viewport=DESK)
    page.goto(address + f"notebooks/{FIRST}.html")
    for name, value in setting.items():
        page.locator(f'.controls input[name="{name}"]').fill(str(value))
    values = {**panel.DEFAULTS, **setting}
    shown = page.locator(".controls svg text[class]").all_text_contents()
    for expected, name, text in zip(panel.before_and_after(**values), "XY", shown):
        theirs = page.evaluate("([values, name]) => beforeAndAfter(values)[name]", [values, name])
        assert len(theirs) == values["batch_size"]
        assert max(abs(a - b) for a, b in zip(theirs, expected)) < 1e-4  # float64 there, float32 here
        mean, std = (float(number) for number in re.findall(r"-?\d+\.\d\d", text))
        assert text.startswith(name) and abs(mean - expected.mean()) < 0.006 and abs(std - expected.std()) < 0.006
    page.close()


# Whether a sidebar is on the screen: in its place or, where that is narrow, in a dialog.
SHOWN = """name => {
    const place = document.querySelector(`#pst-${name}-sidebar`);
    return document.querySelector(`#pst-${name}-sidebar-modal`).open
        || (getComputedStyle(place).visibility === "visible" && place.getBoundingClientRect().width > 0);
}"""


@pytest.mark.parametrize("width", [390, 800, 1200])
def test_the_buttons_of_the_menu_and_the_contents_work(browser, book, width):
    address, _ = book
    tried = set()
    for name in ("primary", "secondary"):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(f"{address}docs/settings.html")
        page.wait_for_load_state("networkidle")
        button = page.locator(f"button.{name}-toggle")
        if button.is_visible():
            before = page.evaluate(SHOWN, name)
            button.click()
            page.wait_for_function(f"before => ({SHOWN})('{name}') !== before", arg=before)
            tried.add(name)
        page.close()
    assert tried == ({"primary", "secondary"} if width < 1200 else {"primary"})


def test_the_first_notebook_has_its_formulas_and_figures(browser, book):
    address, _ = book
    page = browser.new_page(viewport=PHONE)
    page.goto(address + f"notebooks/{FIRST}.html")
    page.evaluate(UNFOLD)
    for kind, least in ((".formula svg", 10), (".cell_output .panels > svg", 5)):
        boxes = [element.bounding_box() for element in page.locator(kind).all()]
        assert len(boxes) >= least, kind
        assert all(box["width"] > 4 and box["height"] > 4 for box in boxes), kind
    page.locator("div.formula svg").nth(1).scroll_into_view_if_needed()
    assert page.locator("div.formula svg").nth(1).get_attribute("aria-label").startswith(r"\hat X_{ij}")
    page.close()
