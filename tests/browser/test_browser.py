r"""The page in a real browser, headless Chromium, opened from disk.    pytest -m slow tests/browser

Needs playwright (tests/browser/requirements.txt) and a system's chromium; where one of them is missing these tests are
skipped, but never where CI is set. Screenshots of the real run are left in tests/browser/screenshots.
"""

import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import run_here
from view.made import HOSTILE, made_run, step_of

import train
from spark_lib.view import read, record, write_page

pytestmark = pytest.mark.slow
REPO = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory) -> Path:
    """The folder of a real, short run on few questions, so that they are visited again."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "sums").mkdir()
    for split, numbers in (("train", range(11, 39)), ("test", range(60, 70))):
        rows = [{"prompt": f"{a} + {2 * a} + 37 = ?", "answer": str(3 * a + 37)} for a in numbers]
        (folder / "sums" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_here(train.main, folder, "run_name=a", f"data={folder / 'sums'}", "max_steps=6", "problems_per_step=8",
             "eval.limit=8")
    return folder / "runs" / "a"


@pytest.fixture(scope="session")
def with_pictures(tmp_path_factory) -> Path:
    """The folder of a real, short run on pictures of shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    run_here(train.main, folder, str(REPO / "configs" / "quickstart_vl.yaml"), "run_name=a", "max_steps=2",
             "problems_per_step=4", "group_size=4", "eval.limit=2")
    return folder / "runs" / "a"


def responses(run: Path) -> list[tuple[dict, dict, dict]]:
    """(step, group, response) of everything recorded."""
    return [(row, group, r) for row in read(run) for group in row["groups"] for r in group["responses"]]


def judged_response(run: Path) -> tuple[dict, dict, dict, int]:
    """(step, group, response, place of the problem that was made of it) of the first response that became one."""
    return next((row, group, r, place) for row, group, r in responses(run) for place, other in enumerate(row["groups"])
                if any(about["id"] == r["id"] for about in other.get("about", ())))


def until(page, script: str, seconds: float = 30) -> None:
    """Wait for a JavaScript expression. (playwright's own way to wait is an eval, which the page's policy forbids.)"""
    deadline = time.time() + seconds
    while not page.evaluate(script):
        assert time.time() < deadline, f"never true: {script}"
        page.wait_for_timeout(20)


def count(page) -> int:
    return int(page.locator(".count").inner_text().split(" ")[0].replace(",", ""))


def chip(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


# --- a real run -----------------------------------------------------------------------------------------------


def test_the_page_of_a_run_opens_from_disk(quickstart, visit):
    """No server, no network, no error; the overview draws, and the rollouts are a click away."""
    page = visit(quickstart / "report.html")
    assert page.title() == "Run a"
    assert page.locator("figure svg").count() >= 5
    assert page.get_by_text("Reward in training").is_visible()
    page.get_by_role("link", name="Rollouts").click()
    page.locator(".card").first.wait_for()
    assert page.locator("button.step").count() == 6 and count(page) == len(responses(quickstart))


def test_from_a_question_to_its_judges_and_back(quickstart, visit):
    """The path that the page is for: a rollout, the judge problem made of it, the rollout again."""
    row, group, judged, made = judged_response(quickstart)
    step, place, number = map(int, judged["id"].split("."))
    page = visit(quickstart / "report.html", f"step={step}")
    page.locator("button.group", has_text=group["question"]).first.click()
    card = page.locator(f"[id='r-{judged['id']}']")
    assert card.locator(".said").inner_text() == judged["text"]
    card.locator(".uses button").first.click()
    shown = page.locator(".card.judged", has_text=judged["id"])
    shown.wait_for()
    assert shown.locator(".said").inner_text() == judged["text"]
    assert f"step={step}&group={made}" in page.url
    assert page.locator(".responses > .cards .card").count() == len(row["groups"][made]["responses"])
    shown.get_by_role("button", name=f"rollout {judged['id']}").click()
    page.locator(".card.chosen").wait_for()
    assert page.locator(".card.chosen .said").inner_text() == judged["text"]
    assert f"step={step}&group={place}&response={number}" in page.url
    page.go_back()  # the browser's own way back is the same path
    page.locator(".card.judged").first.wait_for()


def shown_pictures(page, inside: str) -> list[str]:
    """The addresses of the pictures that the browser has drawn there; one that it could not draw fails."""
    until(page, f"[...document.querySelectorAll('{inside} img')].every((one) => one.complete)")
    found = page.locator(f"{inside} img").evaluate_all("all => all.map((one) => [one.src, one.naturalWidth])")
    assert all(width > 0 for _, width in found)
    return [source for source, _ in found]


def test_the_page_of_a_run_with_pictures(with_pictures, visit):
    """Every question has its thumbnail, the stories too; and so has the judge problem that a response became."""
    row, _, judged, made = judged_response(with_pictures)
    step, place, _ = map(int, judged["id"].split("."))
    file = with_pictures / "report.html"
    page = visit(file)
    page.locator(".story").first.wait_for()
    assert len(shown_pictures(page, ".story")) == page.locator(".story").count() > 0
    for i, group in enumerate(row["groups"]):
        page.goto(f"{file.as_uri()}#step={step}&group={i}")
        until(page, f"document.querySelector('.responses .id')?.textContent === '{step}.{i}.0'")
        wanted = [row["pictures"][key] for key in group["pictures"]]
        assert shown_pictures(page, ".responses") == wanted and len(wanted) == 1
    page.goto(f"{file.as_uri()}#step={step}&group={place}")
    page.locator(f"[id='r-{judged['id']}'] .uses button").first.click()
    shown = page.locator(".card.judged", has_text=judged["id"])
    shown.wait_for()
    assert shown.locator(".said").inner_text() == judged["text"] and f"step={step}&group={made}" in page.url
    key, = row["groups"][place]["pictures"]
    assert shown_pictures(page, ".responses") == [row["pictures"][key]]


def test_the_next_visit_of_a_problem(quickstart, visit):
    """In a later epoch the same question is asked again: the page leads there and back."""
    seen: dict[str, list] = {}
    for row in read(quickstart):
        for place, group in enumerate(row["groups"]):
            if group["kind"] == "solve":
                seen.setdefault(group["question"], []).append((row["step"], place))
    (step, place), (later, there) = next(found for found in seen.values() if len(found) == 2)
    page = visit(quickstart / "report.html", f"step={step}&group={place}")
    page.get_by_role("button", name="visited again").click()
    page.get_by_role("button", name="visited before").wait_for()
    assert f"step={later}&group={there}" in page.url


JUDGES = ("pointwise", "pairwise")
FILTERS = {
    "right": lambda g, r: r["reward"] >= 1, "wrong": lambda g, r: r["reward"] < 1,
    "judge wrong": lambda g, r: g["kind"] in JUDGES and r["reward"] < 1,
    "verdict unread": lambda g, r: g["kind"] in JUDGES and r["verdict"] is None,
    "cut off": lambda g, r: not r["finished"], "dropped group": lambda g, r: g["dropped"] is not None,
}


def test_filters_count_what_python_counts(quickstart, visit):
    """Each filter alone, with each kind, two together, and a search: against the record itself."""
    said = responses(quickstart)
    page = visit(quickstart / "report.html", "step=0")
    page.locator(".card").first.wait_for()
    for name, passes in FILTERS.items():
        chip(page, name).click()
        assert count(page) == sum(passes(g, r) for _, g, r in said), name
        for kind in ("solve", *JUDGES, "reflect"):
            chip(page, kind).click()
            assert count(page) == sum(passes(g, r) for _, g, r in said if g["kind"] == kind), (name, kind)
        chip(page, "all kinds").click()
        chip(page, name).click()
    chip(page, "wrong").click()
    chip(page, "dropped group").click()
    assert count(page) == sum(FILTERS["wrong"](g, r) and FILTERS["dropped group"](g, r) for _, g, r in said)
    chip(page, "wrong").click()
    chip(page, "dropped group").click()
    page.get_by_role("searchbox").fill("LOOKS right")
    page.keyboard.press("Enter")
    wanted = sum("looks right" in r["text"].lower() or "looks right" in g["prompt"].lower() for _, g, r in said)
    until(page, f"document.querySelector('.count').textContent.startsWith('{wanted} of')")
    shown = page.locator(".steps li:not([hidden]) .found").all_text_contents()
    assert sum(map(int, shown)) == wanted > 0


@pytest.mark.parametrize("ends", ["fail()", "go()"])
def test_a_search_that_was_left_calls_nobody_back(quickstart, visit, ends):
    """It ends, or breaks, while the reader is at the overview: that stays, its address too."""
    page = visit(quickstart / "report.html", "step=3")
    page.locator(".card").first.wait_for()
    page.evaluate("""() => {
        const real = unpack;
        unpacked.clear();
        unpack = (name) => new Promise((yes, no) => {
            window.fail = () => no(new Error("broken")), window.go = () => yes(real(name));
        });
    }""")
    page.get_by_role("searchbox").fill("boxed")
    page.keyboard.press("Enter")
    until(page, "!!window.fail")
    page.get_by_role("link", name="Overview").click()
    until(page, "location.hash === '#overview'")
    page.evaluate(ends)
    page.wait_for_timeout(300)
    assert page.evaluate("[location.hash, document.body.dataset.view]") == ["#overview", "overview"]


def test_an_address_can_be_shared(quickstart, visit):
    """A link opens what was seen: step, group, response, colours, filters."""
    page = visit(quickstart / "report.html", "step=2&group=1&response=3&colour=logprob&kind=solve&show=wrong")
    page.locator(".card.chosen").wait_for()
    assert page.locator(".card.chosen .id").inner_text() == "2.1.3"
    assert chip(page, "log-prob").get_attribute("aria-pressed") == "true"
    for name in ("solve", "wrong"):
        assert chip(page, name).get_attribute("aria-pressed") == "true"
    (row,) = [row for row in read(quickstart) if row["step"] == 2]
    tokens = row["groups"][1]["responses"][3]["tokens"]
    shown = page.locator(".card.chosen .said .t")
    assert shown.all_text_contents() == tokens
    first = row["groups"][1]["responses"][3]
    assert f"{first['logprobs'][0]:.3f}".replace("-", "−") in shown.first.get_attribute("title")
    page = visit(quickstart / "report.html", "step=99&group=77&colour=none&kind=x&show=a,b")  # of another run
    page.locator("button.step").first.wait_for()
    assert page.locator("button.step[aria-current=true]").inner_text().startswith("step 0")


def test_keys(quickstart, visit):
    """Without a mouse: j, k, arrows, / and ?; and every control can be reached and has a name."""
    page = visit(quickstart / "report.html", "step=0")
    page.locator(".card").first.wait_for()
    groups = page.locator("button.group")
    for key, place in (("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        until(page, f"document.querySelectorAll('button.group')[{place}].ariaCurrent === 'true'")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('button.step[aria-current=true]').textContent.startsWith('step 1')")
    groups.first.focus()
    page.keyboard.press("ArrowDown")
    until(page, "document.activeElement === document.querySelectorAll('button.group')[1]")
    page.locator(".segments button").first.focus()
    page.keyboard.press("c")
    page.keyboard.press("c")
    until(page, "document.activeElement.textContent === 'advantage × weight'")
    assert "colour=push" in page.url
    page.evaluate("""['c', 'c', 'c', 'c'].forEach((key) => document.activeElement.dispatchEvent(
        new KeyboardEvent('keydown', {key, bubbles: true})))""")  # faster than any event of the address can be told
    page.wait_for_timeout(200)
    assert page.evaluate("document.activeElement.textContent") == "plain" and "colour" not in page.url
    page.keyboard.press("/")
    until(page, "document.activeElement.type === 'search'")
    page.keyboard.type("jjk")
    assert page.get_by_role("searchbox").input_value() == "jjk"
    page.keyboard.press("Tab")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    nameless = page.evaluate("""[...document.querySelectorAll('button, input, select, svg[role=img], a')]
        .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim())).length""")
    assert nameless == 0


def test_colours_of_what_pushed(quickstart, visit):
    """Tokens of a response with a positive advantage are marked as made more likely, in the table with the number."""
    up = next(r for _, _, r in responses(quickstart) if r["advantage"] > 0)
    step, place, number = up["id"].split(".")
    page = visit(quickstart / "report.html", f"step={step}&group={place}&response={number}&colour=push")
    card = page.locator(".card.chosen")
    card.wait_for()
    assert all(" p" in name for name in card.locator(".said .t").evaluate_all("all => all.map((one) => one.className)"))
    card.get_by_text("tokens as a table").click()
    card.locator("tbody tr").first.wait_for()  # a browser tells of an opened list after the click
    assert card.locator("tbody tr").count() == len(up["tokens"])
    assert f"+{1e4 * up['advantage'] * up['weight']:.2f}e−4" in card.locator("tbody tr").first.inner_text()


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_screenshots(quickstart, visit, width, scheme):
    """For the eye; and at no width does the page scroll sideways."""
    SCREENSHOTS.mkdir(exist_ok=True)
    for address, name in (("overview", "overview"), ("step=3&group=9&colour=logprob", "rollouts")):
        page = visit(quickstart / "report.html", address, viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.locator(".card, section figure").first.wait_for()
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=name == "overview")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript(quickstart, visit):
    """The final figures are there for who turns it off."""
    page = visit(quickstart / "report.html", java_script_enabled=False)
    skills = json.loads((quickstart / "summary.json").read_text())["after"]
    assert f"{100 * skills['solve']:.1f}" in page.locator("table").inner_text()


# --- hostile and large ----------------------------------------------------------------------------------------


def test_hostile_texts_are_inert(tmp_path, visit):
    """Everything a model may write is shown as text, in lists, cards, prompts, stories; none of it runs."""
    rows = [step_of(i, text=text) for i, text in enumerate(HOSTILE)]
    for row, text in zip(rows, HOSTILE):
        row["groups"][0] |= {"question": text, "prompt": text, "answer": text, "choices": [text],
                              "context": [[text, text]]}
    run = made_run(tmp_path / "<b>run", rows)
    stories = [{"question": text, "answer": text, "pictures": ["x' onerror='window.broken = 1"],
                "turns": [{"kind": "solve", "text": text, "right": True}]} for text in HOSTILE]
    (run / "before.json").write_text(json.dumps({"skills": None, "examples": stories}))
    file = write_page(run)
    page = visit(file)
    page.locator(".story").first.wait_for()
    assert page.locator("h1").inner_text() == "<b>run"
    assert page.locator(".story .said").first.inner_text() == HOSTILE[0]
    written = re.compile("[\u2028\u2029\u202e\u202c\x00\x07\ud800-\udfff]")
    for i, text in enumerate(HOSTILE):
        for colour in ("plain", "push"):
            page.goto(f"{file.as_uri()}#step={i}&group=0&colour={colour}")
            until(page, f"document.querySelector('.responses .id')?.textContent === '{i}.0.0'")
            wanted = written.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)[:20_000]
            said = page.locator(".card .said").first.evaluate("one => one.textContent")
            assert said.startswith(wanted) and page.locator("h2.question").evaluate("one => one.textContent") == wanted
    for query in HOSTILE[:2]:
        page.goto(f"{file.as_uri()}#step=0&q={quote(query)}")
        until(page, "document.querySelector('.count').textContent.includes(' of ')")
    assert page.evaluate("window.broken") is None
    page.goto(f"{file.as_uri()}#step=7")
    page.get_by_role("button", name="show all of it").first.click()  # a million letters without a space
    assert page.locator(".card .said").first.evaluate("one => one.textContent.length") == 1_000_000
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_policy_holds(tmp_path, browser):
    """If a way in is found all the same, the browser itself runs nothing that is not the page's and asks no server."""
    file = write_page(made_run(tmp_path / "run", [step_of(0)]))
    page = browser.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.goto(file.as_uri())
    refused = page.evaluate("""async () => {
        const refused = [];
        document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
        const script = document.createElement('script');
        script.textContent = 'window.broken = 1';
        const image = new Image();
        image.src = 'https://example.org/x.png';
        document.body.append(script, image);
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.broken = 1">');
        document.body.insertAdjacentHTML('beforeend', '<p style="color: red">x</p>');
        await fetch('https://example.org/').catch(() => 0);
        await new Promise((done) => setTimeout(done, 200));
        return refused;
    }""")
    assert {"script-src-elem", "script-src-attr", "style-src-attr", "img-src", "connect-src"} <= set(refused)
    assert page.evaluate("window.broken") is None
    assert set(failed) <= {"csp"}  # stopped by the policy, before any network was asked
    page.close()


def test_a_hundred_thousand_responses_stay_responsive(tmp_path, visit, capsys):
    """Time to the first paint and to a filter; on a fast machine both are a fraction of what is allowed here."""
    run = made_run(tmp_path / "large", [])
    texts = [f"{i} + {i + 1} = {2 * i + 1}. \\boxed{{{2 * i + 1}}}" for i in range(50)]
    for step in range(600):
        row = step_of(step, count=21, size=8)
        for g, group in enumerate(row["groups"]):
            for i, r in enumerate(group["responses"]):
                r["text"] = texts[(7 * step + g + i) % 50]
                r["tokens"] = r["text"].split(" ")
                r["logprobs"] = [-(step * g * (i + j) % 997) / 499 for j in range(len(r["tokens"]))]
        record.append(run / record.NAME, row)
    file = write_page(run)
    assert file.stat().st_size < 20_000_000
    page = visit(file, "step=0")
    page.locator(".card").first.wait_for()
    assert count(page) == 600 * 21 * 8
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    filtering = page.evaluate("""async () => {
        const start = performance.now();
        [...document.querySelectorAll('.chip')].find((one) => one.textContent === 'wrong').click();
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        return performance.now() - start;
    }""")
    assert count(page) == 600 * 21 * 7
    start = time.perf_counter()
    page.get_by_role("searchbox").fill("boxed{99}")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.count').textContent.startsWith('1')", 60)
    searching = time.perf_counter() - start
    with capsys.disabled():
        sys.stdout.write(f"\n{file.stat().st_size / 1e6:.1f} MB, first paint {painted:.0f} ms, "
                         f"filter {filtering:.0f} ms, search {searching:.1f} s\n")
    assert painted < 5000 and filtering < 1500
