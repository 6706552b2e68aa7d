"""The page as a browser shows it: it fits a phone, and the answer comes first."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.image import imread

from sparsim.compare import compare
from sparsim.html import write_html
from sparsim.network import Layer, Network

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
)
PHONE = 390
BUDGETS = (5_000, 60_000, 600_000)  # ms of the page's own clock, which runs ahead of a busy computer

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"needs a browser: {', '.join(BROWSERS)}")

# What a reader would see, asked of the page inside a frame as wide as a phone: no window is made so narrow.
PROBE = """<!DOCTYPE html><html><head><title>waiting</title></head><body style="margin:0">
<iframe src="report.html" style="width:%dpx;height:800px;border:0"></iframe>
<script>
addEventListener('load', async () => {
  const page = document.querySelector('iframe').contentDocument, root = page.documentElement;
  const all = name => [...page.querySelectorAll(name)], top = at => at.getBoundingClientRect().top;
  const layers = all('table').filter(table => table.rows[0].cells[0].textContent == 'layer');
  const found = {open: all('details[open]').length, details: all('details').length, closed: root.scrollHeight};
  all('details').forEach(each => { each.open = true; });
  all('img').forEach(each => { each.loading = 'eager'; });
  const drawn = await Promise.allSettled(all('img').map(each => each.decode()));
  Object.assign(found, {
    width: root.scrollWidth, view: root.clientWidth, opened: root.scrollHeight,
    order: [all('.verdict'), all('table'), all('img'), layers, all('#words'), all('#sources')].map(a => top(a[0])),
    last: top(all('section').pop()) - top(all('#sources')[0]),
    shown: all('details').filter(each => each.getBoundingClientRect().height > 60).length,
    spilt: all('th, td').filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.textContent),
    pictures: all('img').length, decoded: drawn.filter(each => each.status == 'fulfilled').length,
    requests: page.defaultView.performance.getEntriesByType('resource').map(each => each.name.slice(0, 40))
  });
  document.title = JSON.stringify(found);
});
</script></body></html>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    network = Network("tiny", (Layer("a_layer_with_a_rather_long_name.fc1", rng.normal(size=(32, 64))),))
    comparison = compare(network, on=["sparch", "a100"], granularity=["unstructured"], sparsity=[0.9], progress=False)
    made = tmp_path_factory.mktemp("browser")
    write_html(comparison, made / "report.html")
    return made


def browse(folder, *arguments, budget=BUDGETS[0]):
    """Run the browser with a profile of its own and no network, and return what it prints."""
    profile = folder / "profile"
    isolated = (
        f"--user-data-dir={profile}",
        f"--virtual-time-budget={budget}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    )
    command = [BROWSER, *FLAGS, *isolated, "--allow-file-access-from-files", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def seen(folder):
    probe = folder / "probe.html"
    probe.write_text(PROBE % PHONE, "utf-8")
    for budget in BUDGETS:
        page = browse(folder, "--dump-dom", probe.as_uri(), budget=budget)
        title = re.search(r"<title>(.*?)</title>", page, re.DOTALL).group(1)
        if title != "waiting":
            break
    assert title.startswith("{"), title
    return json.loads(title)


def test_nothing_sticks_out_on_a_phone(seen):
    assert seen["view"] == PHONE
    assert seen["width"] == PHONE
    assert seen["spilt"] == []


def test_the_verdict_comes_first_and_the_sources_last(seen):
    assert seen["order"] == sorted(seen["order"])
    assert seen["last"] == 0


def test_details_are_closed_and_open_to_what_they_hold(seen):
    assert seen["open"] == 0
    assert seen["details"] >= 9
    assert seen["shown"] == seen["details"]
    assert seen["opened"] > 2 * seen["closed"]


def test_every_picture_is_drawn_and_nothing_asked_for_elsewhere(seen):
    assert seen["pictures"] > 4
    assert seen["decoded"] == seen["pictures"]
    assert [name for name in seen["requests"] if not name.startswith("data:")] == []


def test_screenshot_shows_text_and_colours(folder):
    shot = folder / "shot.png"
    browse(folder, f"--screenshot={shot}", "--window-size=1200,2000", (folder / "report.html").as_uri())
    image = imread(shot)[:, :, :3]
    assert image.shape[:2] == (2000, 1200)
    dark = (image.max(axis=2) < 0.4).any(axis=1)
    assert dark.mean() > 0.2
    few = (255 * image[::5, ::5]).astype(np.uint8).reshape(-1, 3)
    assert np.unique(few, axis=0).shape[0] > 20
