"""The dashboard in a real browser, without JavaScript but where that is said, on a real service."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from sqlalchemy import Engine
from tests.conftest import NO_BROWSER, serving
from tests.measuring import measure
from tests.samples import ENVIRONMENT, found, job, operators, result, small_data
from tests.service import LiveService
from tests.store.test_bisections import Bisecting, by_layers
from tests.store.test_corners import HERE, Story

from noisefloor.contract.figure import Figure
from noisefloor.contract.job import JobSpec
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store.session import open_engine, writing
from noisefloor.workflow.submit import submit

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PROJECT = "browser"
ENGINES = ["onednn", "x86", "fbgemm"]
SHAS = ["a" * 40, "b" * 40, "c" * 40]
Quiet = tuple[str, Engine, Settings]
Jobs = list[dict[str, Any]]
HOSTILE = "<script>document.title='owned'</script><img src=/nowhere onerror=alert(1)>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except PlaywrightError as error:
            # Elsewhere a missing browser skips these tests, loudly; where merges are decided it fails them.
            missing = pytest.fail if os.environ.get("CI") else pytest.skip
            missing(f"{NO_BROWSER}: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page without JavaScript. What the console says, violations of the policy too, fails the test."""
    context = chromium.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    yield page
    context.close()
    assert said == []


@pytest.fixture(scope="module")
def measured(live_service: LiveService) -> Jobs:
    """Three commits of one branch, measured on three engines; the last one fails under a floor of 90 dB."""
    found = []
    for number, (sha, floor_db) in enumerate(zip(SHAS, (30, 30, 90), strict=True)):
        scheme = {
            "flow": "eager",
            "mode": "qat",
            "edges": ["float32->fake", "fake->true"],
            "floor_db": {"float32->fake": floor_db},
        }
        git = {"branch": "main", "sha": sha, "committed_at": f"2026-11-0{number + 1}T12:00:00Z"}
        subject = {"zoo": "multiple-ops-no-avgpool", "data": small_data()}
        document = job(
            name=f"commit {number}", subjects=[subject], schemes=[scheme], lanes={"engine": ENGINES}, git=git
        )
        found.append(live_service.wait(live_service.submit(document, PROJECT)["id"], PROJECT))
    return found


@pytest.fixture
def quiet(sqlite_template: Path, tmp_path: Path) -> Iterator[Quiet]:
    """A service without a worker and with a token: its address and its database."""
    path = shutil.copy(sqlite_template, tmp_path / "noisefloor.db")
    settings = Settings(database=f"sqlite:///{path}", port=0, token="s3cret")
    engine = open_engine(settings.database)
    with serving(settings, engine) as client:
        yield str(client.base_url), engine, settings
    engine.dispose()


def post(quiet: Quiet, answer: Any = None, **changes: Any) -> str:
    """A job in the quiet service: queued, or measured with the given results."""
    _, engine, settings = quiet
    spec = JobSpec.model_validate(job(**changes))
    with writing(engine, "test") as session:
        if answer is None:
            return submit(session, project="demo", spec=spec, settings=settings, dispatch=LocalDispatch()).id
        return measure(session, settings, LocalDispatch(), spec, answer).id


def log_in(page: Page, url: str, target: str = "/") -> None:
    page.goto(f"{url}/login?next={target}")
    page.get_by_label("Token").fill("s3cret")
    follow(page, page.get_by_role("button", name="Log in"))


def follow(page: Page, to: Locator) -> None:
    """Click what leads to another page, and be there: a click alone does not wait for it."""
    with page.expect_navigation():
        to.click()


def matrix_row(page: Page, edge: str) -> Locator:
    words = re.compile(edge.replace("->", r"\s*→\s*"))
    return page.locator("table.matrix tr").filter(has=page.locator("th[scope=row]").filter(has_text=words))


def figure_text(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f}" if figure["kind"] == "finite" else figure["kind"]


def test_a_project_lists_its_jobs(page: Page, live_service: LiveService, measured: Jobs) -> None:
    page.goto(f"{live_service.url}/projects/{PROJECT}")
    names = page.locator("table.jobs th[scope=row] a").all_inner_texts()
    assert names[:3] == ["commit 2", "commit 1", "commit 0"]
    newest = page.locator("table.jobs tbody tr").first
    assert measured[2]["verdict"] in newest.inner_text()
    assert "main@ccccccccc" in newest.inner_text()
    assert "3/3" in newest.inner_text()


def test_the_matrix_shows_the_api_s_figures(page: Page, live_service: LiveService, measured: Jobs) -> None:
    job_id = measured[0]["id"]
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{job_id}")
    headers = page.locator("table.matrix thead th").all_inner_texts()
    assert headers[2:5] == ENGINES
    for cell in live_service.cells(job_id, PROJECT):
        for measurement in cell["measurements"]:
            column = headers.index(cell["lane"]["engine"]) - 1
            shown = matrix_row(page, measurement["edge"]).locator("td").nth(column).locator("a.figure")
            assert shown.inner_text() == figure_text(measurement["figure"])


def test_a_failing_job_says_what_how_much_where_and_how_to_reproduce_it(
    page: Page, live_service: LiveService, measured: Jobs
) -> None:
    job_id = measured[2]["id"]
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{job_id}")
    assert "regressed" in page.locator(".banner").inner_text()
    concerns = {c.get_by_role("heading").inner_text(): c for c in page.locator(".concern.regressed").all()}
    for cell in live_service.cells(job_id, PROJECT):
        fake = next(m for m in cell["measurements"] if m["edge"] == "float32->fake")
        (concern,) = (c for title, c in concerns.items() if title.endswith(cell["lane"]["engine"]))
        text = concern.inner_text()
        assert f"{fake['figure']['value']:.3f} dB" in text
        assert "90.000 dB" in text
        assert f"{90 - fake['figure']['value']:.3f} dB below" in text
        assert "The same as for the result before" in text
        assert "torch" in text
        assert concern.get_by_label("Command that reproduces").inner_text() == cell["repro"]


def test_a_command_says_what_it_needs_and_is_copied_by_a_button(chromium: Browser, quiet: Quiet) -> None:
    git = {"repository": "acme/models", "branch": "main", "sha": SHAS[0]}
    subject = {"import": "subjects_under_test.stacks:linear_stack", "data": small_data()}
    settings = quiet[2].model_copy(update={"import_allow": ("subjects_under_test",)})
    scheme = {"flow": "eager", "mode": "static", "edge": "float32->true", "floor_db": 90}
    job_id = post((*quiet[:2], settings), result, subjects=[subject], schemes=[scheme], git=git)
    context = chromium.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    concern = page.locator(".concern.regressed")
    expect(concern.locator(".told")).to_have_text(
        "In a checkout of acme/models at aaaaaaaaa (git checkout aaaaaaaaa), with torch 2.13.0 on AVX2 "
        "(test), it prints 41.500 dB. It exits with 1, for a floor of its own is above that. "
        'A processor with more is held at AVX2 where "isa":["avx2"] stands in its "lanes".'
    )
    concern.get_by_role("button", name="Copy").click()
    expect(concern.get_by_role("button", name="Copied")).to_be_visible()
    command = concern.get_by_label("Command that reproduces").inner_text()
    assert command.startswith("printf %s ")
    assert page.evaluate("navigator.clipboard.readText()") == command
    context.close()
    assert said == []


def test_a_failing_job_leads_to_the_layers_of_its_cell(
    page: Page, live_service: LiveService, measured: Jobs
) -> None:
    job_id = measured[2]["id"]
    cell = live_service.cells(job_id, PROJECT)[0]
    address = f"/v1/projects/{PROJECT}/jobs/{job_id}/cells/{cell['id']}/layers"
    report = live_service.http.get(address).json()["reports"][0]
    noisiest = max(report["layers"], key=lambda layer: layer["share"])
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{job_id}")
    concern = page.locator(".concern").first
    said = f"noisiest layer is {noisiest['name']}: {noisiest['local']['value']:.3f} dB on its own"
    assert said in concern.inner_text()
    concern.get_by_role("link", name="All layers").click()
    page.wait_for_url("**/cells/*")
    table = page.locator("table.layers").first
    names = table.locator("tbody th").all_inner_texts()
    assert [name.split()[0] for name in names] == [layer["name"].split()[0] for layer in report["layers"]]
    assert noisiest["name"] in table.locator("tr.noisiest").inner_text()
    assert page.locator("pre.command").inner_text() == cell["repro"]


def test_a_layer_that_lost_since_the_result_before_is_named(page: Page, quiet: Quiet) -> None:
    def answer(own_db: float) -> Any:
        layers = [
            Layer(
                name=name,
                kind="Linear",
                cumulative=Figure.finite(db),
                local=Figure.finite(db),
                share=share,
            )
            for name, db, share in (("noisy", 30.0, 0.9), ("moved", own_db, 0.1))
        ]
        report = LayerReport(edge="float32->true", layers=tuple(layers), first_divergent="noisy")
        return lambda cell: result(cell, own_db, layers=(report,))

    policy = {"rules": {"max_drop_db": 0.5}, "on": {"no_baseline": "warn"}}
    for sha, own_db in (("a" * 40, 45.0), ("b" * 40, 42.0)):
        at = f"2026-11-0{1 + (own_db < 45)}T12:00:00Z"
        git = {"branch": "main", "sha": sha, "committed_at": at}
        job_id = post(quiet, answer(own_db), policy=policy, git=git)
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    said = page.locator(".concern").first.inner_text()
    assert "Layer moved lost 3.000 dB of its own since then: 45.000 → 42.000 dB." in said
    assert "error begins at" not in said  # of another layer: it would be a second culprit
    assert page.get_by_role("link", name="compare with").get_attribute("href") == (
        f"/projects/demo/compare/{SHAS[0]}...{SHAS[1]}"
    )
    follow(page, page.get_by_role("link", name="All layers"))
    assert "Layer moved lost most, 3.000 dB of its own since the baseline, aaaaaaaaa." in page.inner_text(
        "main"
    )
    heads = page.locator("table.layers thead th").all_inner_texts()
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("table.layers tbody tr").all()]
    told = {row[0].split()[0]: dict(zip(heads, row, strict=True)) for row in rows}
    assert told["moved"]["At the baseline, dB"] == "45.000"
    assert told["moved"]["Change, dB"] == "\N{MINUS SIGN}3.000"
    assert told["noisy"]["Change, dB"] == "0.000"
    assert page.locator("tr.noisiest th").inner_text().startswith("moved")


def test_a_topic_is_compared_with_its_baselines_commit(page: Page, quiet: Quiet) -> None:
    policy = {"rules": {"max_drop_db": 0.5}, "baseline": {"source": "merge_base", "branch": "main"}}
    post(quiet, result, policy=policy, git={"branch": "main", "sha": SHAS[0]})
    git = {"branch": "topic", "sha": SHAS[1], "ancestors": [SHAS[0]]}
    job_id = post(quiet, result, policy=policy, git=git)
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    page.get_by_role("link", name="compare with aaaaaaaaa").click()
    expect(page.locator("h1")).to_have_text("aaaaaaaaa → bbbbbbbbb")


def test_a_trend_draws_a_vertex_and_a_link_for_each_result(
    page: Page, live_service: LiveService, measured: Jobs
) -> None:
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{measured[0]['id']}")
    matrix_row(page, "float32->fake").locator("a.figure").first.click()
    page.wait_for_url("**/series/*")
    key = page.url.rsplit("/", 1)[1]
    trends = live_service.http.get(f"/v1/projects/{PROJECT}/trends", params={"series": key}).json()
    points = trends["items"][0]["points"]
    assert len(points) == len(SHAS)
    runs = [line.get_attribute("points") or "" for line in page.locator("svg.chart polyline").all()]
    assert sum(len(run.split()) for run in runs) == len(points)
    links = [mark.get_attribute("href") or "" for mark in page.locator("svg.chart a.mark").all()]
    assert [link.rsplit("/", 1)[1] for link in links] == [point["job_id"] for point in points]
    assert page.locator("svg.chart .floor-label").text_content() == "floor 90.000 dB"
    assert page.locator("svg.chart line.floor").count() == 2
    figures = page.locator("table.points td.figure").all_inner_texts()
    assert figures == [figure_text(point["figure"]) for point in reversed(points)]


def test_a_trend_shows_what_was_not_measured_and_where_the_level_changed(page: Page, quiet: Quiet) -> None:
    def crash(cell: str) -> CellResult:
        return CellResult(cell=cell, status="crashed", reason=HOSTILE)

    def answer(number: int) -> Any:
        return crash if number == 4 else lambda cell: result(cell, 41.5 if number < 8 else 38.25)

    for number in range(12):
        git = {
            "branch": "main",
            "sha": f"{number:040x}",
            "committed_at": f"2026-11-{number + 1:02}T12:00:00Z",
        }
        job_id = post(quiet, answer(number), git=git)
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    follow(page, page.locator("table.matrix a.figure").first)
    (gap,) = page.locator("svg.chart a.gap").all()
    assert f"crashed: {HOSTILE}, main@000000000" in (gap.locator("title").text_content() or "")
    runs = [line.get_attribute("points") or "" for line in page.locator("svg.chart polyline").all()]
    assert [len(run.split()) for run in runs] == [4, 7]
    row = page.locator("table.points tr").filter(has=page.locator("td.gap"))
    assert HOSTILE in row.inner_text()
    assert page.locator("svg.chart text.shift-label").all_text_contents() == ["C1"]
    said = page.locator(".changes li").first.inner_text()
    assert "the level moved by \N{MINUS SIGN}3.250 dB, from 41.500 to 38.250" in said
    assert {"not measured", "C: the level changed"} <= set(page.locator("ul.legend li").all_inner_texts())
    follow(page, page.get_by_role("link", name="time"))
    assert page.locator("svg.chart a.mark").count() == 12


def test_two_commits_are_chosen_and_compared(page: Page, quiet: Quiet) -> None:
    for sha, figure in ((SHAS[0], 41.5), (SHAS[1], 38.25)):
        post(quiet, lambda cell, figure=figure: result(cell, figure), git={"branch": "main", "sha": sha})
    log_in(page, quiet[0], "/projects/demo")
    page.get_by_text("Compare two commits").click()
    page.get_by_label("Base").fill(SHAS[0][:8])
    page.get_by_label("Head").fill(SHAS[1])
    follow(page, page.get_by_role("button", name="Compare"))
    assert "\N{MINUS SIGN}3.250" in page.locator("table.compared").inner_text()
    follow(page, page.locator("table.compared th a").first)
    assert page.locator("svg.chart").count() == 1


def test_a_branch_without_results_says_so(page: Page, live_service: LiveService, measured: Jobs) -> None:
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{measured[0]['id']}")
    follow(page, page.locator("table.matrix a.figure").first)
    page.get_by_label("Branch").fill("nobody's")
    follow(page, page.get_by_role("button", name="Show"))
    assert "No result on branch nobody's" in page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_no_page_is_wider_than_its_window(
    page: Page, live_service: LiveService, measured: Jobs, width: int, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    job_id = measured[2]["id"]
    cell = live_service.cells(job_id, PROJECT)[0]
    for path in (
        "/projects/" + PROJECT,
        f"/projects/{PROJECT}/jobs/{job_id}",
        f"/projects/{PROJECT}/jobs/{job_id}#cell-0",
        f"/projects/{PROJECT}/series/{cell['measurements'][0]['series']}",
        f"/projects/{PROJECT}/series/{cell['measurements'][0]['series']}?x=time",
        f"/projects/{PROJECT}/compare/{SHAS[0]}...{SHAS[2]}",
        f"/environments/{cell['environment']}",
    ):
        page.goto(live_service.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_small_screen_shows_every_column_that_decides(
    page: Page, live_service: LiveService, measured: Jobs
) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    job_id = measured[2]["id"]
    cell = live_service.cells(job_id, PROJECT)[0]
    for path, shown in (
        (f"jobs/{job_id}", [*ENGINES, "Floor", "Range"]),
        (f"series/{cell['measurements'][0]['series']}", ["SQNR, dB", "Change", "Verdict", "Environment"]),
        (f"compare/{SHAS[0]}...{SHAS[2]}", ["aaaaaaaaa", "ccccccccc", "Change"]),
        (f"jobs/{job_id}/cells/{cell['id']}", ["Own error", "Before", "Change", "Reached", "Share"]),
    ):
        page.goto(f"{live_service.url}/projects/{PROJECT}/{path}")
        table = page.locator("table.stacks").first
        boxes = [td.bounding_box() for td in table.locator("td:visible").all()]
        assert boxes
        assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 400 for box in boxes)
        heads = [td.get_attribute("data-head") for td in table.locator("td:visible").all()]
        assert {*shown} <= {*heads}
        caption = page.locator(".caption").first.bounding_box()
        assert caption is not None
        assert caption["x"] + caption["width"] <= 400


def test_a_table_that_scrolls_keeps_its_first_column_and_says_so(
    page: Page, live_service: LiveService, measured: Jobs
) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{measured[0]['id']}#cell-0")
    region = page.get_by_role("region", name="Figures of cell 0")
    first = region.locator("tbody th").first
    before = first.bounding_box()
    region.evaluate("it => it.scrollLeft = 300")
    assert region.evaluate("it => it.scrollLeft") == 300
    assert first.bounding_box() == before
    assert region.evaluate("it => getComputedStyle(it).backgroundAttachment").startswith(
        "local, local, scroll"
    )


def test_a_cell_opens_to_all_its_figures(page: Page, live_service: LiveService, measured: Jobs) -> None:
    job_id = measured[0]["id"]
    cell = live_service.cells(job_id, PROJECT)[1]
    page.goto(f"{live_service.url}/projects/{PROJECT}/jobs/{job_id}")
    page.locator("details.cell > summary").nth(1).click()
    text = page.locator("#cell-1").inner_text()
    for expected in (cell["repro"], cell["inputs_digest"], cell["executed_engine"], "Relative L2", "Cosine"):
        assert expected in text
    follow(page, page.locator("#cell-1").get_by_role("link", name=cell["environment"][:8]))
    assert "torch" in page.locator("table.document").inner_text()


def test_users_text_is_inert(page: Page, quiet: Quiet) -> None:
    def crash(cell: str) -> CellResult:
        return CellResult(cell=cell, status="crashed", reason=HOSTILE, traceback=HOSTILE)

    job_id = post(quiet, crash, name=HOSTILE, git={"branch": HOSTILE})
    log_in(page, quiet[0])
    for path in ("", f"/jobs/{job_id}"):
        page.goto(f"{quiet[0]}/projects/demo{path}")
        assert HOSTILE in page.locator("main").inner_text()
        assert page.locator("img").count() == 0
        assert page.evaluate("[...document.scripts].map(one => one.src + one.text)") == [
            f"{quiet[0]}/static/noisefloor.js"
        ]
        assert page.title() != "owned"


def test_a_change_of_environment_is_told_where_a_result_dropped(page: Page, quiet: Quiet) -> None:
    def newer(cell: str) -> CellResult:
        return result(cell, 38.25, environment=ENVIRONMENT.replace(torch="2.14.0"))

    policy = {"rules": {"max_drop_db": 0.5}, "on": {"no_baseline": "warn"}}
    post(quiet, result, policy=policy, git={"branch": "main", "sha": SHAS[0]})
    job_id = post(quiet, newer, policy=policy, git={"branch": "main", "sha": SHAS[1]})
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    text = page.locator(".concern").inner_text()
    for expected in ("38.250 dB", "41.500 dB aaaaaaaaa", "\N{MINUS SIGN}3.250 dB"):
        assert expected in text
    assert re.search(r"Changed since the baseline:\s+torch 2.13.0 → 2.14.0", text)
    page.get_by_role("link", name="Trend").click()
    page.wait_for_url("**/series/*")
    assert page.locator("svg.chart text.environment-label").all_text_contents() == ["E1"]
    assert page.locator(".changes li li").all_inner_texts() == ["torch 2.13.0 → 2.14.0"]


def test_a_loss_leads_to_the_jobs_that_explain_it(page: Page, quiet: Quiet) -> None:
    url, engine, settings = quiet
    with writing(engine, "test") as session:
        story = Story(session, settings.model_copy(update={"import_allow": ("subjects_under_test",)}))
        story.workers(here=HERE)
        lost = story.lost()
    log_in(page, url, f"/projects/demo/jobs/{lost.id}")
    told = page.locator(".attribution")
    expect(told).to_contain_text("The cause is not known: nobody has measured the baseline's commit")
    expect(told).to_contain_text("the nearest differs in torch 2.13.0 → 2.14.0")
    measure_it = page.get_by_label("Command that measures the baseline's commit here")
    assert measure_it.count() == 0  # a worker is at it
    told.get_by_role("link").click()
    expect(page.locator("h1")).to_contain_text(f"attribution of {lost.id}")
    page.get_by_role("link", name="another job's losses").click()
    expect(page).to_have_url(f"{url}/projects/demo/jobs/{lost.id}")


def test_a_cause_that_is_not_known_comes_with_the_command_that_measures_it(page: Page, quiet: Quiet) -> None:
    url, engine, settings = quiet
    with writing(engine, "test") as session:
        story = Story(session, settings.model_copy(update={"import_allow": ("subjects_under_test",)}))
        lost = story.lost()
    log_in(page, url, f"/projects/demo/jobs/{lost.id}")
    expect(page.locator(".attribution")).to_contain_text("The cause is not known")
    expect(page.locator(".concern")).to_contain_text("in this job's environment, torch 2.14.0 · AVX2")
    expect(page.get_by_label("Command that measures the baseline's commit here")).to_have_text(
        f"noisefloor attribute --project demo {lost.id} -- git checkout -q {{sha}}"
    )


def test_a_loss_in_one_environment_is_the_codes(page: Page, quiet: Quiet) -> None:
    url, engine, settings = quiet
    with writing(engine, "test") as session:
        story = Story(session, settings.model_copy(update={"import_allow": ("subjects_under_test",)}))
        story.measure(1, ENVIRONMENT, 40)
        lost = story.measure(2, ENVIRONMENT, 36)
    log_in(page, url, f"/projects/demo/jobs/{lost.id}")
    said = page.locator(".attribution")
    expect(said).to_contain_text("Put down to the code: code 4.000 dB")
    expect(said).to_contain_text("the environment is the same.")
    page.get_by_text("Let it through").click()
    expect(page.get_by_label("Command that lets the job through")).to_have_text(
        f"noisefloor accept --project demo {lost.id} --reason '…'"
    )


def test_a_missing_series_stands_where_its_gravity_puts_it(page: Page, quiet: Quiet) -> None:
    policy = {"rules": {"max_drop_db": 0.5}}
    for day, sha, engines in ((1, SHAS[0], ["x86", "onednn"]), (2, SHAS[1], ["fbgemm", "x86"])):
        git = {"branch": "main", "sha": sha, "committed_at": f"2026-11-0{day}T12:00:00Z"}
        job_id = post(quiet, result, name="nightly", policy=policy, git=git, lanes={"engine": engines})
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    assert "2 findings, the gravest first" in page.locator(".attention").inner_text()
    gravest, other = page.locator(".concern").all()
    assert "missing: the baseline had 41.500 dB, the job does not measure it" in gravest.inner_text()
    expect(other.get_by_role("heading")).to_contain_text("fbgemm")
    expect(other.locator(".verdict").first).to_have_text("no baseline")


def test_findings_come_before_what_is_known_of_the_job(page: Page, quiet: Quiet) -> None:
    on = {"no_baseline": "warn"}
    job_id = post(quiet, lambda cell: result(cell, 20.0), policy={"on": on})
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    assert page.locator("h2").all_inner_texts() == ["Needs attention", "About the job", "Matrix", "Cells"]
    page.set_viewport_size({"width": 400, "height": 800})
    top = page.locator(".concern").first.bounding_box()
    assert top is not None
    assert top["y"] < 500  # of a screen of 800
    policy = page.locator(".facts div", has=page.get_by_text("Policy", exact=True)).last
    assert "no baseline: warn" in policy.inner_text()
    assert "worker error" not in policy.inner_text()
    policy.locator("summary").click()
    assert "worker error: error" in policy.inner_text()


def test_a_job_that_waits_renews_itself_and_says_for_what(page: Page, quiet: Quiet) -> None:
    waiting = post(quiet)
    log_in(page, quiet[0], f"/projects/demo/jobs/{waiting}")
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "2"
    assert "Waiting for a worker" in page.locator(".progress").inner_text()


def test_a_settled_job_does_not_renew_itself(page: Page, quiet: Quiet) -> None:
    settled = post(quiet, result)
    log_in(page, quiet[0], f"/projects/demo/jobs/{settled}")
    assert page.locator("meta[http-equiv=refresh]").count() == 0


def test_a_large_job_is_shown_in_pages(page: Page, quiet: Quiet) -> None:
    subjects = [{"zoo": "multiple-ops", "seeds": {"stream": n}, "data": small_data()} for n in range(100)]
    # settled, so that the page does not renew itself while it is read
    job_id = post(quiet, result, subjects=subjects, lanes={"engine": ENGINES})
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    ordinals = page.locator("details.cell .ordinal")
    expect(ordinals).to_have_count(240)
    seen = ordinals.all_inner_texts()
    assert "Cells 1 to 240 of 300" in page.locator("main").inner_text()
    page.get_by_role("link", name="Next cells").first.click()
    expect(ordinals).to_have_count(60)
    assert "What needs attention" in page.locator("main").inner_text()
    seen += ordinals.all_inner_texts()
    assert seen == [str(ordinal) for ordinal in range(300)]
    page.get_by_role("link", name="Previous cells").first.click()
    expect(ordinals.first).to_have_text("0")


def test_older_jobs_are_one_link_away(page: Page, quiet: Quiet) -> None:
    for number in range(52):
        post(quiet, name=f"job {number}")
    log_in(page, quiet[0], "/projects/demo")
    follow(page, page.get_by_role("link", name="Older jobs"))
    assert page.locator("table.jobs th[scope=row] a").all_inner_texts() == ["job 1", "job 0"]


SCRIPT = "import torch\nprint('two steps off')\n"
FAULT = {
    "verdict": "wrong",
    "wrong_cases": 2,
    "wrong_share": 0.25,
    "max_lsb": 9,
    "worst_db": -3.25,
    "reason": HOSTILE,
    "case": {"op": "aten::relu", "sizes": {"shape": [1, 2]}},
    "script": SCRIPT,
}


def kernels(quiet: Quiet, *told: dict[str, Any], environment: Environment = ENVIRONMENT) -> str:
    """A job on relu, its engines finding what is told of each in turn."""
    engines = [*ENGINES, "qnnpack"][: len(told)]
    answers = iter(zip(engines, told, strict=True))

    def answer(cell: str) -> CellResult:
        engine, changes = next(answers)
        return found(cell, op="aten::relu", engine=engine, **changes).replace(environment=environment)

    changes = operators("aten::relu", mode="full", lanes={"engine": engines})
    return post(quiet, answer, **{name: changes[name] for name in ("subjects", "schemes", "lanes")})


def test_the_grid_says_in_words_what_was_found_of_each_kernel(page: Page, quiet: Quiet) -> None:
    known = {**FAULT, "known": "saturates"}
    kernels(quiet, FAULT, {"verdict": "within_1_lsb"}, known, {"verdict": "crashes"})
    log_in(page, quiet[0], "/conformance")
    table = page.locator("table.kernels")
    expect(table.locator("thead th")).to_have_text(["Operator", "qnnpack", "onednn", "x86", "fbgemm"])
    expect(table.locator("tbody th")).to_have_text(["aten::relu"])
    figures = "\N{MINUS SIGN}3.2 dB · 25.0 % · 9 LSB"
    expect(table.locator("td.entry")).to_have_text(
        ["crashes0.0 % · 0 LSB", f"wrong{figures}", "within 1 LSB", f"wrong, known{figures}"]
    )
    expect(page.locator(".facts")).to_contain_text("2.13.0")


def test_a_fault_opens_to_its_script_its_figures_and_its_history(page: Page, quiet: Quiet) -> None:
    kernels(quiet, {}, environment=ENVIRONMENT.replace(torch="2.12.1"))
    kernels(quiet, FAULT)
    log_in(page, quiet[0], "/conformance")
    page.locator("td.entry.wrong a").click()
    expect(page.locator("h1")).to_have_text("aten::relu on onednn, ISA cap native")
    expect(page.get_by_label("Script that shows the fault")).to_have_text(SCRIPT)
    facts = page.locator(".facts").inner_text()
    for expected in ("25.0 %", "9 LSB", "-3.250 dB", "torch 2.13.0", HOSTILE):
        assert expected in facts
    expect(page.get_by_label("Command that reproduces")).to_contain_text("noisefloor run -")
    rows = page.locator("table.points tbody tr").all_inner_texts()
    assert [("wrong" in row, "2.13.0" in row, "exact" in row) for row in rows] == [
        (True, True, False),
        (False, False, True),
    ]
    page.locator("table.points th a").click()
    expect(page.locator(".banner .word")).to_have_text("exact")


def test_the_grid_is_narrowed_by_operator_and_torch(page: Page, quiet: Quiet) -> None:
    kernels(quiet, {}, environment=ENVIRONMENT.replace(torch="2.12.1"))
    kernels(quiet, FAULT)
    log_in(page, quiet[0], "/conformance")
    page.get_by_label("torch").select_option("2.12.1")
    follow(page, page.get_by_role("button", name="Show"))
    expect(page.locator("td.entry")).to_have_text(["exact"])
    page.get_by_label("Operator").fill("conv*")
    follow(page, page.get_by_role("button", name="Show"))
    expect(page.locator("main")).to_contain_text("Nothing was found on the full grid with torch 2.12.1")


def test_a_job_on_operators_shows_their_grid_and_what_needs_attention(page: Page, quiet: Quiet) -> None:
    refused = {"verdict": "unsupported", "reason": "its engines are: x86"}
    job_id = kernels(quiet, FAULT, {}, refused)
    log_in(page, quiet[0], f"/projects/demo/jobs/{job_id}")
    expect(page.locator(".banner .word")).to_have_text("regressed")
    expect(page.locator("#grid-1-caption")).to_have_text("1 wrong, 1 exact, 1 unsupported")
    assert page.locator("table.matrix:not(.kernels)").count() == 0
    concern = page.locator(".concern.regressed")
    expect(concern).to_contain_text("wrong in 2 of 9 cases, 25.0% of the elements")
    concern.get_by_role("link", name="What was found of the kernel").click()
    expect(page.locator(".banner .word")).to_have_text("wrong")
    page.get_by_role("link", name="wrong cases").click()
    expect(page.locator(".facts")).to_contain_text("cases that are wrong")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_no_page_of_kernels_is_wider_than_its_window(
    page: Page, quiet: Quiet, width: int, scheme: Any
) -> None:
    long = "with values: " + "extreme" * 40
    job_id = kernels(quiet, *[{**FAULT, "reason": long, "script": "x = " + "1" * 400}] * 4)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    log_in(page, quiet[0], "/conformance")
    kernel = page.locator("td.entry a").first.get_attribute("href") or ""
    for address in ("/conformance", kernel, f"/projects/demo/jobs/{job_id}"):
        page.goto(quiet[0] + address)
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_nothing_tried_says_how_to_try(page: Page, quiet: Quiet) -> None:
    log_in(page, quiet[0], "/conformance")
    expect(page.locator("main")).to_contain_text("noisefloor submit examples/conformance.yaml")


def test_an_empty_service_says_how_to_start(page: Page, quiet: Quiet) -> None:
    log_in(page, quiet[0])
    assert "noisefloor submit job.yaml" in page.locator("main").inner_text()


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/\t/evil.example"]
)
def test_login_leads_to_this_host_only(page: Page, quiet: Quiet, target: str) -> None:
    page.goto(f"{quiet[0]}/login")
    action = page.locator("form").get_attribute("action") or ""
    assert action.startswith("/login")
    answer = page.request.post(
        f"{quiet[0]}/login", params={"next": target}, form={"token": "s3cret"}, max_redirects=0
    )
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_a_bisection_shows_its_first_bad_step_and_what_it_was_measured_by(page: Page, quiet: Quiet) -> None:
    url, engine, settings = quiet
    of = post(quiet, lambda cell: result(cell, 20.0), name="nightly")
    log_in(page, url, f"/projects/demo/jobs/{of}")
    page.get_by_text("Find what lost it").click()
    command = page.get_by_label("Command that bisects the loss over layers").inner_text()
    assert command.startswith(f"noisefloor bisect --project demo --of {of} --series ")
    assert command.endswith("--over layers")

    bisecting = Bisecting(engine, settings, over="layers", of=of)
    page.goto(f"{url}/projects/demo/bisections/{bisecting.id}")
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "2"
    assert "measuring all layers" in page.locator(".banner").inner_text()
    assert "Waiting for a worker" in page.locator(".waiting").inner_text()

    seen = bisecting.run(by_layers("fc2"))
    page.reload()
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    assert "first bad: fc2: 20.000 dB" in page.locator(".banner").inner_text()
    rows = page.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(seen.steps)
    assert page.locator("tr.noisiest th").inner_text().strip() == "fc2"
    repro = page.get_by_label("Command that reproduces the first bad step").inner_text()
    assert "fc3" in repro
    assert "noisefloor run -" in repro
    page.locator("tr.noisiest").get_by_role("link", name="job").click()
    page.get_by_role("link", name="a bisection").click()
    page.get_by_role("link", name="the worst loss of a job").click()
    assert "Bisection over layers: first bad: fc2" in page.locator(".concern.regressed").inner_text()
    assert page.get_by_role("heading", name="Bisections").count() == 0
    failing = Bisecting(engine, settings, over="layers", of=of)
    failing.run(lambda _held, cell: result(cell, 20.0))
    page.reload()
    last = page.locator("section", has=page.get_by_role("heading", name="Bisections"))
    assert "over layers failed: " in last.inner_text()
    assert "failed" not in page.locator(".attention").inner_text()
    for width in (320, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{url}/projects/demo/bisections/{bisecting.id}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
