"""Several runs side by side."""

import json
import re
import statistics
from pathlib import Path

import pytest
from view.made import made_run
from view.test_page import parts

from spark_lib.config import ConfigError
from spark_lib.report import pyplot
from spark_lib.view import __main__ as command
from spark_lib.view import compare, page
from spark_lib.view.compare import curve, load, write_comparison


def run(folder: Path, rewards: list[float], solve: float, **settings) -> Path:
    """A run's folder with these rewards of solving and this skill after training."""
    made_run(folder, [], **settings)
    rows = [{"step": i, "solve/reward": reward, "sampled_tokens": 100 * (i + 1)} for i, reward in enumerate(rewards)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    skills = {"solve": solve, "pointwise": None, "pairwise": 0.5, "reflection": 0.5, "tts": [solve, solve],
              "yes_rate": 0.5, "a_rate": 0.5, "n": 10}
    (folder / "summary.json").write_text(json.dumps({"after": skills, "seconds": {"total": 60}}))
    return folder


def test_seeds_are_gathered_and_what_differs_is_listed(tmp_path):
    """Runs that differ in the seed alone are one setting; a key is listed if and only if it differs among settings."""
    solves = [0.5, 0.6, 0.8]
    folders = [run(tmp_path / f"a{i}", [0.1 * i, 0.2], solve, seed=i) for i, solve in enumerate(solves)]
    folders.append(run(tmp_path / "b", [0.5, 0.5, 0.5], 0.9, lr=0.5, beta=0.0))
    path = write_comparison(folders)
    assert path.parent == tmp_path / "a0-vs-a1-vs-a2-vs-b"
    assert (path.parent / "compare.png").read_bytes().startswith(b"\x89PNG")
    text = (path.parent / "compare.md").read_text()
    mean, deviation = statistics.mean(solves), statistics.stdev(solves)
    assert f"| solve | {100 * mean:.1f} ± {100 * deviation:.1f} | 90.0 |" in text
    assert "| lr | 1e-05 | 0.5 |" in text and "| beta | 0.001 | 0.0 |" in text
    assert "seed |" not in text and "run_name" not in text
    data, _, elements = parts(path)
    assert [one["runs"] for one in data["settings"]] == [["a0", "a1", "a2"], ["b"]]
    assert data["differing"] == [["key", "a0 (3 seeds)", "b"], ["beta", "0.001", "0.0"], ["lr", "1e-05", "0.5"]]
    points = data["skills"][0]["values"]
    assert points[0]["value"] == pytest.approx(mean) and points[0]["high"] == pytest.approx(mean + deviation)
    assert "low" not in points[1] and data["skills"][1]["values"][0]["value"] is None
    assert "0.9" not in elements.of("td")[0][1] and any(text == "90.0" for _, text in elements.of("td"))


def test_curves_have_the_deviation_of_a_sample(tmp_path):
    """Over the steps that all seeds have; the mean of up to 5 steps, as in a run's own figure."""
    runs = [load(run(tmp_path / "a", [0.0, 1.0, 0.5], 0.5)), load(run(tmp_path / "b", [1.0, 1.0], 0.5, seed=1))]
    found = curve(runs, "solve/reward")
    assert found["step"] == [0, 1] and found["mean"] == [0.5, 0.75]
    assert found["deviation"] == pytest.approx([statistics.stdev([0, 1]), statistics.stdev([0.5, 1])])
    assert curve(runs[:1], "solve/reward")["deviation"] is None
    assert curve(runs, "pairwise/reward") is None


def test_runs_of_one_seed_are_no_seeds(tmp_path):
    """A run given twice and a run done again were "2 seeds" that differ by ± 0.0, which looks like certainty."""
    first, again = run(tmp_path / "a", [0.2, 0.2], 0.5), run(tmp_path / "a-2", [0.4, 0.4], 0.7)
    other = run(tmp_path / "b", [0.5, 0.5], 0.9, lr=0.5)
    twice = [first, tmp_path / "b" / ".." / "a", other]
    assert [one["label"] for one in parts(write_comparison(twice))[0]["settings"]] == ["a", "b"]
    with pytest.raises(ConfigError, match="nothing to compare it with"):
        write_comparison(twice[:2])
    data, _, _ = parts(write_comparison([first, again, other], tmp_path / "out"))
    assert [one["label"] for one in data["settings"]] == ["a (2 runs of one seed)", "b"] and "band" not in data["note"]
    assert data["settings"][0]["curves"]["solve/reward"]["deviation"] is None
    assert data["skills"][0]["values"][0]["value"] == pytest.approx(0.6) and "low" not in data["skills"][0]["values"][0]
    assert "| solve | 60.0 | 90.0 |" in (tmp_path / "out" / "compare.md").read_text()
    third = run(tmp_path / "c", [0.9, 0.9], 0.8, seed=1)
    data, _, _ = parts(write_comparison([first, again, third], tmp_path / "out"))
    assert [one["label"] for one in data["settings"]] == ["a (3 runs of 2 seeds)"] and "band" in data["note"]
    deviation = statistics.stdev([0.6, 0.8])  # of the seeds, of which one has its mean
    solve = data["skills"][0]["values"][0]
    assert solve["value"] == pytest.approx(0.7) and solve["high"] == pytest.approx(0.7 + deviation)


def test_runs_without_evaluation_are_compared_all_the_same(tmp_path, monkeypatch, capsys):
    """eval.limit=0, a run that still goes on: curves and costs are what there is."""
    folders = [run(tmp_path / name, [0.5], 0.5, lr=lr) for name, lr in (("a", 1.0), ("b", 2.0))]
    (folders[0] / "summary.json").write_text(json.dumps({"after": None, "seconds": {"total": 60}}))
    (folders[1] / "summary.json").unlink()
    command.main([*map(str, folders), f"out={tmp_path / 'out'}"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "compare.html")
    assert "| seconds | 60 | – |" in (tmp_path / "out" / "compare.md").read_text()


def test_mistakes_get_one_clear_line(tmp_path):
    good = run(tmp_path / "a", [0.5], 0.5)
    with pytest.raises(ConfigError, match="nothing: not a run's folder"):
        write_comparison([good, tmp_path / "nothing"])
    empty = run(tmp_path / "b", [], 0.5)
    with pytest.raises(ConfigError, match="no step yet"):
        write_comparison([good, empty])


def css_values(rule: str) -> list[str]:
    """What page.css says at each place where it has this rule, a regular expression with one group."""
    return re.findall(rule, (page.PARTS / "page.css").read_text(encoding="utf-8"))


def apart(colors: list[str]) -> float:
    """The least distance of two colours, of the 441 from black to white."""
    rgb = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors]
    return min(sum((x - y) ** 2 for x, y in zip(one, other)) ** 0.5 for i, one in enumerate(rgb) for other in rgb[:i])


def test_no_two_settings_look_alike(tmp_path, monkeypatch):
    """Colours and dashes repeated together from the fifth setting on, in the page as in the PNG: now 20 differ in
    both, and the page has each colour and each kind of dashes as its own rule, in light and in dark."""
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    count = 12
    folders = [run(tmp_path / f"s{i}", [0.5, 0.6], 0.5, lr=1.0 + i) for i in range(count)]
    data, _, _ = parts(write_comparison(folders))
    (figure,) = drawn
    curves, *_, bars = (ax for ax in figure.axes if ax.axison)
    assert len({(line.get_color(), line.get_linestyle()) for line in curves.lines}) == len(curves.lines) == count
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in bars.patches}
    assert len(looks) == count
    kinds = [one["kind"] for one in data["settings"]]
    assert len(set(kinds)) == count and kinds == [value["kind"] for value in data["skills"][0]["values"]]
    assert len({compare.style(i) for i in range(20)}) == 20


def test_page_and_png_have_the_same_colours_and_as_many_dashes():
    """Read from page.css: a class that has no rule would be drawn as its neighbour is."""
    schemes = list(zip(*(css_values(rf"--k{i}: (#\w+);") for i in range(len(compare.COLORS)))))
    assert len(schemes) == 2 and schemes[0] == compare.COLORS
    assert all(apart(colors) > 60 for colors in schemes)
    for i in range(len(compare.COLORS)):
        for rule in (rf"\.line\.k{i}\b[^}}]*stroke: var\((--k\d)\)", rf"\.whisker\.k{i}\b[^}}]*stroke: var\((--k\d)\)",
                     rf"circle\.k{i} {{ fill: var\((--k\d)\)", rf"\.band\.k{i}, [^}}]*fill: var\((--k\d)\)"):
            assert css_values(rule) == [f"--k{i}"], rule
    dashes = [css_values(rf"\.line\.dash-{i} {{ stroke-dasharray: ([^;]+);") for i in range(len(compare.LINES))]
    assert all(len(found) == 1 for found in dashes) and len({found[0] for found in dashes}) == len(dashes)
    assert len({*compare.LINES}) == len({*compare.HATCHES}) == len(compare.LINES)
