"""The pages of an evaluation and of several runs in a real browser, as test_browser.py.

    pytest -m slow tests/browser
"""

import json
import re
from pathlib import Path

import pytest
from browser.test_browser import SCREENSHOTS, chip, count, until
from conftest import run_here
from view.test_compare import run as compared_run

import evaluate
from spark_lib.view.compare import write_comparison

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory) -> Path:
    """The folder of a real, short evaluation."""
    folder = tmp_path_factory.mktemp("evaluation")
    run_here(evaluate.main, folder, "starter", "limit=8", "samples=4")
    return folder / "runs" / "eval-starter-arithmetic"


def test_the_page_of_an_evaluation(evaluation, visit):
    """A click on a bin of the reliability diagram shows its judgements; a figure's link shows what it counts."""
    results = json.loads((evaluation / "results.json").read_text())
    page = visit(evaluation / "report.html")
    page.locator("a.bin").first.wait_for()
    for i, one in enumerate(results["pointwise"]["bins"]):
        page.locator("a.bin").nth(i).click()
        until(page, "document.querySelector('.count')")
        assert count(page) == one["count"]
        page.get_by_role("link", name="Figures").click()
        page.locator("a.bin").first.wait_for()
    page.get_by_role("link", name="mean@4").click()
    page.locator(".entry").first.wait_for()
    assert count(page) == 32
    chip(page, "right").click()
    until(page, "document.querySelector('.chip[aria-pressed=true]')")
    assert count(page) == round(32 * results["solve"]["mean@k"])
    page.get_by_role("link", name="all that was said about this problem").first.click()
    page.locator(".tag", has_text="answers").first.wait_for()


def test_each_point_of_a_curve_leads_to_what_is_behind_it(tmp_path, monkeypatch, visit):
    """By keyboard, as points may lie on each other, and by mouse; each has a name that says where it is."""
    monkeypatch.chdir(tmp_path)
    evaluate.main(["starter", "limit=4", "samples=3", "parts=[samples,judge,reflect,tournament]"])
    folder = tmp_path / "runs" / "eval-starter-arithmetic"
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    said = [json.loads(line)["stage"].split(": ")[1] for line in lines]
    page = visit(folder / "report.html")
    for name, stages in {
        "judge + reflect, 0 rounds": ["answers"], "judge + reflect, 1 round:": ["answers", "judge 1", "reflect 1"],
        "judge + reflect, 2 rounds": ["answers", "judge 1", "reflect 1", "judge 2", "reflect 2"],
        "best of n, 1 sample:": ["samples"], "best of n, 3 samples": ["samples", "judge samples"],
        "weighted vote, 2 samples": ["samples", "judge samples"], "majority vote, 3 samples": ["samples"],
        "tournament, 3 samples": ["samples", "duels"],
    }.items():
        page.locator(f"a.spot[aria-label^='{name}']").focus()
        page.keyboard.press("Enter")
        until(page, "document.querySelector('.count')")
        assert count(page) == sum(stage in stages for stage in said) > 0, name
        page.get_by_role("link", name="Figures").click()
        page.locator("a.spot").first.wait_for()
    assert page.locator("a.spot").count() == 3 + 4 * 3
    assert page.locator("svg[role=img] a").count() == 0
    page.locator("a.spot[aria-label^='judge + reflect, 2 rounds']").click()
    page.locator(".entry").first.wait_for()


def test_the_page_of_several_runs(tmp_path, visit):
    folders = [compared_run(tmp_path / f"a{i}", [0.1, 0.5, 0.4 + i / 10], 0.5 + i / 10, seed=i) for i in range(3)]
    folders.append(compared_run(tmp_path / "</script>", [0.5, 0.6, 0.7], 0.9, lr=0.5))
    page = visit(write_comparison(folders, tmp_path / "out"))
    assert page.locator("figure svg").count() >= 2
    assert page.get_by_role("cell", name="90.0").count() >= 1 and page.get_by_text("a0 (3 seeds)").count() >= 2
    assert page.locator(".band").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_twelve_settings_are_told_apart(tmp_path, visit, scheme):
    """As the browser draws them: no two have the colour and the dashes, and each dot has its name beside it."""
    folders = [compared_run(tmp_path / f"s{i}", [0.1 * i / 2, 0.5, 0.6], 0.3 + i / 20, lr=1.0 + i) for i in range(12)]
    page = visit(write_comparison(folders, tmp_path / "out"), color_scheme=scheme)
    page.locator("path.line").first.wait_for()
    drawn = page.locator("path.line").evaluate_all("""all => all.map((one) => {
        const style = getComputedStyle(one);
        return [style.stroke, style.strokeDasharray];
    })""")
    assert len(drawn) == 12 and len({tuple(look) for look in drawn}) == 12
    names = page.locator("svg text", has_text=re.compile(r"^\d+\.\d s\d+$")).all_text_contents()
    assert sorted(names[:12]) == sorted(f"{100 * (0.3 + i / 20):.1f} s{i}" for i in range(12))
    boxes = page.locator("figure").first.locator("circle").evaluate_all(
        "all => all.map((one) => Math.round(one.getBoundingClientRect().top))")
    assert len(set(boxes)) == len(boxes)  # none lies on another


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_they_fit(evaluation, tmp_path, visit, width, scheme):
    """For the eye; and at no width does a page scroll sideways, or a figure cut off what is written in it. Long names
    that differ in their ends stay apart."""
    SCREENSHOTS.mkdir(exist_ok=True)
    folders = [compared_run(tmp_path / f"a setting with a long name of its own, rate {i}", [0.1, 0.5, 0.4 + i / 30],
                            0.3 + i / 20, lr=1.0 + i) for i in range(12)]
    comparison = write_comparison(folders, tmp_path / "out")
    for name, file in (("evaluation", evaluation / "report.html"), ("comparison", comparison)):
        page = visit(file, viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.locator("figure svg text").first.wait_for()
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("figure svg").evaluate_all("""all => all.flatMap((drawing) => {
            const whole = drawing.getBoundingClientRect();
            return [...drawing.querySelectorAll("text")].filter((text) => {
                const box = text.getBoundingClientRect();
                return box.left < whole.left - 1 || box.right > whole.right + 1;
            }).map((text) => text.textContent);
        })""") == []
    written = page.locator("svg text.name").evaluate_all("all => all.map((one) => one.lastChild.textContent)")
    assert len(written) == len(set(written)) == 12
