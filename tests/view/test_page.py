"""The page as a file: what is in it, how large it is, that nothing in it can run but its own code."""

import base64
import gzip
import hashlib
import html.parser
import json
import random
import re
import subprocess
import sys

import pytest
from view.made import HOSTILE, made_run, response, step_of

from spark_lib.config import ConfigError
from spark_lib.view import __main__ as command
from spark_lib.view import page, read, record, write_page
from spark_lib.view.compare import write_comparison


class Elements(html.parser.HTMLParser):
    """The elements of a page in order, as (tag, attributes, text directly inside)."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        self.found.append(("/" + tag, {}, ""))

    def handle_data(self, text):
        if self.found:
            tag, attributes, before = self.found[-1]
            self.found[-1] = (tag, attributes, before + text)

    def of(self, tag: str, **wanted) -> list[tuple[dict, str]]:
        return [(a, text) for t, a, text in self.found if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def parts(path) -> tuple[dict, dict[str, dict], Elements]:
    """(data, packed steps by element id, all elements) of a page."""
    elements = Elements(path.read_text(encoding="utf-8"))
    (_, data), = elements.of("script", id="data")
    packed = elements.of("script", type="application/gzip")
    return json.loads(data), {a["id"]: json.loads(gzip.decompress(base64.b64decode(t))) for a, t in packed}, elements


def test_the_page_holds_the_record(tmp_path):
    """The page shows what read() returns, step by step, and an index that says the same."""
    run = made_run(tmp_path / "run", [step_of(0), step_of(1, count=3)])
    data, packed, _ = parts(write_page(run))
    assert [packed[f"step-{i}"] for i in range(2)] == list(read(run))
    assert data["steps"][1] == {"step": 1, "groups": [[0, 0, p, [1.0, 0.0, 0.0, 0.0], "0000"] for p in (0, 1, 2)]}
    assert data["left_out"] == "" and data["curves"]["solve/reward"] == [0.5, 0.5]


def test_index_of_marks():
    """What the filters count: cut off is 1, a verdict that cannot be read 2, both 3."""
    row = step_of(4, count=1)
    row["groups"][0] |= {"kind": "pointwise", "dropped": "equal rewards", "responses": [
        response("4.0.0", verdict="Yes"), response("4.0.1", verdict=None),
        response("4.0.2", verdict=None, finished=False, reward=0.5)]}
    assert page.index(row, {})["groups"] == [[1, 1, 0, [0.0, 0.0, 0.5], "023"]]


def test_hostile_texts_are_data(tmp_path):
    """What a model, a data set or a run's name holds must not become markup: the page's elements stay those of the
    template, and the texts come out of its data as they went in."""
    rows = [step_of(i, text=text) for i, text in enumerate(HOSTILE)]
    for row, text in zip(rows, HOSTILE):
        row["groups"][0] |= {"question": text, "prompt": text, "answer": text[:20]}
    run = made_run(tmp_path / "<img src=x>{{data}}", rows)
    story = {"question": HOSTILE[0], "answer": HOSTILE[1], "pictures": [],
             "turns": [{"kind": "solve", "text": text[:50], "right": False} for text in HOSTILE]}
    (run / "before.json").write_text(json.dumps({"skills": None, "examples": [story]}))
    data, packed, elements = parts(write_page(run))
    assert data["stories"]["before"] == [story] and data["name"] == run.name
    assert [packed[f"step-{i}"] for i in range(len(rows))] == rows
    tags = [tag for tag, _, _ in elements.found]
    assert tags.count("img") == 0 and tags.count("script") == 2 + len(rows)
    assert not [name for _, attributes, _ in elements.found for name in attributes if name.startswith("on")]
    (_, title), = elements.of("title")
    assert title == f"Run {run.name}"


def test_the_committed_pages_are_of_todays_code(tmp_path):
    """Where this fails, `python docs/results/pages.py` puts today's scripts and style into them."""
    committed = sorted((page.PARTS.parents[2] / "docs" / "results").rglob("*.html"))
    _, _, today = parts(write_page(made_run(tmp_path / "run", [])))
    assert committed
    for path in committed:
        data, _, elements = parts(path)
        for tag, which in (("script", {"type": None}), ("style", {})):
            assert elements.of(tag, **which)[0][1] == today.of(tag, **which)[0][1], (path, tag)
        assert set(data) == set(parts(tmp_path / "run" / "report.html")[0]), path


def test_the_policy_names_the_pages_own_code_and_nothing_else(tmp_path):
    """A policy whose hash is stale would leave a blank page, one that allows more would let model text run."""
    _, _, elements = parts(write_page(made_run(tmp_path / "run", [step_of(0)])))
    (policy, _), = elements.of("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        "script-src": f"'sha256-{sha(elements.of('script', type=None)[0][1])}'",
        "style-src": f"'sha256-{sha(elements.of('style')[0][1])}'",
    }
    assert len(elements.of("script", type=None)) == 1
    assert not [a for _, a, _ in elements.found if {"src", "href"} & set(a)]


def sha(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def bare(run) -> int:
    """Bytes of a run's page without any step."""
    kept = (run / record.NAME).read_bytes()
    (run / record.NAME).unlink()
    size = write_page(run).stat().st_size
    (run / record.NAME).write_bytes(kept)
    return size


def test_a_page_is_never_too_large_and_says_what_it_shows(tmp_path, monkeypatch):
    """20 MB whatever the run: evenly spaced steps of a long one, first and last among them."""
    rows = [step_of(step, count=4, text="".join(map(chr, range(step, step + 120)))) for step in range(40)]
    run = made_run(tmp_path / "run", rows)
    limit = bare(run) + 30_000
    monkeypatch.setattr(page, "LIMIT", limit)
    path = write_page(run)
    data, packed, _ = parts(path)
    shown = [entry["step"] for entry in data["steps"]]
    assert path.stat().st_size <= limit and 10 < len(shown) < 40
    assert shown[0] == 0 and shown[-1] == 39 and len(packed) == len(shown)
    gaps = {after - before for before, after in zip(shown, shown[1:])}
    assert max(gaps) - min(gaps) <= 1
    assert f"shown are {len(shown)} of them" in data["left_out"] and "40 steps" in data["left_out"]


@pytest.mark.parametrize("limit", [150_000, 400_000, 700_000])
def test_the_index_of_the_steps_counts_as_well(tmp_path, monkeypatch, limit):
    """Short responses that are much alike pack well, and the index is not packed: it was the larger part of a page
    that became larger than it may be. The page is as full as it can be all the same."""
    run = made_run(tmp_path / "run", [step_of(step, count=21, size=8) for step in range(300)])
    before = [{"kind": "solve", "text": "told " * 10_000, "right": True}]
    (run / "before.json").write_text(json.dumps({"skills": None, "examples": [{"turns": before}]}))
    monkeypatch.setattr(page, "LIMIT", limit)
    path = write_page(run)
    data, _, _ = parts(path)
    step = len(json.dumps(data["steps"][0])) + 5_000  # bytes of one, about
    assert limit - 2 * step <= path.stat().st_size <= limit and 2 < len(data["steps"]) < 300


def test_a_step_that_is_too_large_alone_is_shown_in_part(tmp_path, monkeypatch):
    """One step of a large model may be more than a page: then its responses are cut in the page, and it says so."""
    rng = random.Random(0)
    row = step_of(0, count=1, size=2)
    for r in row["groups"][0]["responses"]:
        r["tokens"] = [rng.choice("abcdefgh") * 3 for _ in range(20_000)]
        r["logprobs"] = [round(-rng.random(), 3) for _ in r["tokens"]]
        r["text"] = "".join(r["tokens"])
    run = made_run(tmp_path / "run", [row])
    limit = bare(run) + 40_000
    monkeypatch.setattr(page, "LIMIT", limit)
    path = write_page(run)
    _, packed, _ = parts(path)
    shown = packed["step-0"]
    assert shown["shortened"] and path.stat().st_size <= limit
    first = shown["groups"][0]["responses"][0]
    assert (len(first["tokens"]), len(first["logprobs"]), first["count"]) == (page.LONGEST, page.LONGEST, 20_000)
    assert list(read(run)) == [row]  # the record has the whole
    monkeypatch.setattr(page, "LIMIT", limit - 39_500)
    data, packed, _ = parts(write_page(run))
    assert packed == {} and data["steps"] == [] and "shown are 0 of them" in data["left_out"]


@pytest.mark.parametrize("costs, room, places", [
    ([1] * 5, 10**6, {0, 1, 2, 3, 4}), ([1080] * 5, 3300, {0, 2, 4}), ([1080] * 5, 2200, {0, 4}),
    ([1080] * 5, 1100, {0}), ([1080] * 5, 100, set()), ([], 100, set()), ([1] * 5, -1, set()),
    ([1] * 200_000, 199_000, None),  # in no time
])
def test_fitting(costs, room, places):
    found = page.fitting(costs, room)
    assert found == places if places is not None else len(found) == room


def test_a_page_in_the_middle_of_a_run(tmp_path):
    """Neither a summary nor a whole last line is there yet, nor anything recorded with record=0."""
    run = made_run(tmp_path / "run", [step_of(0)])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 1, "solve/rew')
    with open(run / record.NAME, "ab") as file:
        file.write(record.pack(step_of(1))[:30])
    data, packed, _ = parts(write_page(run))
    assert "1 of 100 steps so far" in data["facts"] and list(packed) == ["step-0"]
    (run / record.NAME).unlink()
    data, packed, _ = parts(write_page(run))
    assert data["steps"] == [] and packed == {} and data["left_out"] == ""


def test_a_long_run_is_summed_and_smoothed_before_it_is_thinned(tmp_path, monkeypatch):
    """Sums over every tenth step were a tenth of what was sampled, and the mean of 5 steps one of 50."""
    run = made_run(tmp_path / "run", [])
    rewards = [step % 2 for step in range(95)]
    rows = [{"step": step, "solve/reward": reward, "solve/tokens": 10 + step, "sampled_tokens": step}
            | ({"reflect/reward": reward, "reflect/tokens": 1} if step % 3 else {})
            for step, reward in enumerate(rewards)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(page, "POINTS", 10)
    data, _, _ = parts(write_page(run))
    assert data["tokens"] == {"solve": sum(range(10, 105)), "pointwise": 0, "pairwise": 0, "reflect": 63}
    assert data["curves"]["step"] == list(range(0, 95, 10)) and len(data["curves"]["solve/reward"]) == 10
    means = [sum(rewards[max(0, step - 4) : step + 1]) / min(5, step + 1) for step in range(0, 95, 10)]
    assert data["smooth"]["solve/reward"] == pytest.approx(means)
    reflected = [row["reflect/reward"] for row in rows[:11] if "reflect/reward" in row]
    assert data["smooth"]["reflect/reward"][:2] == [None, sum(reflected[-5:]) / 5]
    assert "pairwise/reward" not in data["smooth"]


def test_a_broken_run_has_a_page(tmp_path):
    """NaN in the metrics of the run that went wrong would make its page's data no JSON."""
    run = made_run(tmp_path / "run", [step_of(0)])
    (run / "metrics.jsonl").write_text('{"step": 0, "update/loss": NaN, "sampled_tokens": 5}\n')
    text = write_page(run).read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1], parse_constant=pytest.fail)
    assert data["curves"]["update/loss"] == [None]


def test_figures_with_their_intervals_also_without_javascript(tmp_path):
    skills = {"solve": 0.5, "pointwise": None, "pairwise": 0.25, "reflection": 0.1, "tts": [0.5, 0.6], "yes_rate": 0.4,
              "a_rate": None, "n": 20}
    spans = dict.fromkeys(skills) | {"solve": [0.4, 0.6], "tts": [[0.4, 0.6], [0.5, 0.7]]}
    run = made_run(tmp_path / "run", [step_of(0)])
    (run / "before.json").write_text(json.dumps({"skills": skills, "intervals": spans, "examples": []}))
    (run / "after.json").write_text(json.dumps({"skills": skills | {"solve": 0.75}, "examples": []}))
    data, _, elements = parts(write_page(run))
    by_name = {row["what"]: row for row in data["figures"]}
    assert by_name["solve"] == {"what": "solve", "short": "solve", "bias": False, "before": 0.5, "after": 0.75,
                                "before_interval": [0.4, 0.6]}
    assert by_name["solve, 1 round of judge + reflect"]["before_interval"] == [0.5, 0.7]
    assert by_name["judge one"]["after"] is None
    assert [text for _, text in elements.of("td")][:6] == ["held out, %", "before", "after", "solve", "50.0", "75.0"]


def test_mistakes_get_one_clear_line(tmp_path, monkeypatch, capsys):
    """A wrong folder must not end in a traceback, nor leave a file behind."""
    with pytest.raises(ConfigError, match="config.yaml"):
        command.main([str(tmp_path / "nothing")])
    with pytest.raises(ConfigError, match="out: "):
        command.main([str(tmp_path), "out=x"])
    command.main([])
    assert "python -m spark_lib.view" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_reading_needs_no_model():
    """`from spark_lib.view import read` in a notebook should take no ten seconds: nothing of it imports torch."""
    code = "import sys, spark_lib.view; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=page.PARTS.parents[2])
    assert done.stdout.strip() == "False", done.stderr


DAMAGED = {"cut off within": b'{"steps": 1\x00\n', "no text": b"\xff\xfe\x00\n", "a number": b"1\n", "a list": b"[]\n",
           "nested without end": b"[" * 100_000 + b"\n"}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("name", ["summary.json", "after.json", "metrics.jsonl", "timings.jsonl"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, name, damage):
    run = made_run(tmp_path, [])
    (run / name).write_bytes(damage)
    with pytest.raises(ConfigError, match=f"{name}: it is damaged"):
        write_page(run)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"model: [", b"- a list", b"", b"7", b"model: starter",
                                     b"model: ${nothing}", b"model: ${", b"7: 8"])
def test_a_damaged_config_is_named_in_one_line(tmp_path, content):
    """Also one that was cut off by a full disk, which is YAML all the same."""
    run, other = made_run(tmp_path / "a", []), made_run(tmp_path / "b", [])
    (run / "config.yaml").write_bytes(content)
    for see in (lambda: write_page(run), lambda: write_comparison([other, run])):
        with pytest.raises(ConfigError, match="config.yaml: ") as caught:
            see()
        assert str(run) in str(caught.value) and "Traceback" not in str(caught.value)


def test_no_rule_stands_twice_in_the_style():
    """Leftovers of a rule, moved into a media query by mistake, stood there without any effect."""
    style = (page.PARTS / "page.css").read_text(encoding="utf-8")
    rules = [" ".join(f"{selector}{{{body}}}".split()) for selector, body in re.findall(r"([^{}]+){([^{}]*)}", style)]
    assert len(rules) > 100 and [rule for rule in set(rules) if rules.count(rule) > 1] == []
