"""The study tool: what a study file may say, what is run, what is done again, and what the differences are worth."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy
import pytest
from scipy import stats

from spark_lib.config import ConfigError
from spark_lib.study import results, runs
from spark_lib.study.plan import load_study, planned, words_of
from spark_lib.study.report import held_out, write_report

REPO = Path(__file__).parents[2]
SMALL = {"max_steps": 1, "problems_per_step": 4, "judge_share": 0.4, "eval.limit": 6, "max_new_tokens": 60}
STUDY = """
question: Does judging cost solving?
expects: nothing in one step
config: {config}
budget: {budget}
seeds: [3, 4]
settings:
  SPARK: {{}}
  policy-only: {{recycle.kinds: []}}
compare: [[SPARK, policy-only], [SPARK, before]]
"""


ONCE = {"quickstart-as-it-is-3": 1, "quickstart-as-it-is-4": 1, "quickstart-recycle-kinds-3": 1}


@pytest.fixture
def study_file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "judging.yaml"
    file.write_text(STUDY.format(config=REPO / "configs" / "quickstart.yaml", budget=json.dumps(SMALL)))
    return file


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "spark_lib.study", *map(str, words)]


def environment() -> dict:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)}


def wait_for(what: Callable[[], object], process: subprocess.Popen, seconds: float = 200) -> object:
    """What `what` returns, once that is something, while the process is at work."""
    deadline = time.time() + seconds
    while not (found := what()):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(("old", "new", "message"), [
    ("seeds: [3, 4]", "seeds: []", "seeds: expected whole numbers"),
    ("seeds: [3, 4]", "seeds: [3, 3]", "seeds: each must be another one"),
    ("SPARK: {}", "SPARK: {lrr: 1}", "there is no key 'lrr'; did you mean 'lr'"),
    ("SPARK: {}", "SPARK: {lr: fast}", "lr"),
    ("compare: [[SPARK, policy-only], [SPARK, before]]", "compare: [[SPARK, other]]", "there is no setting 'other'"),
    ("compare:", "comparison:", "there is no key 'comparison'"),
    ("SPARK: {}", "SPARK: {}\n  the same: {seed: 0}", "are the same run"),
    ("question:", "question: {", "not valid YAML"),
])
def test_a_study_that_cannot_be_meant_is_refused_before_anything_runs(study_file, old, new, message):
    """A mistyped key in the last of nine settings must not show after an hour."""
    text = study_file.read_text()
    assert old in text
    study_file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_study([str(study_file)])


def test_settings_become_words_that_train_py_reads():
    keys = {"recycle.kinds": [], "lora": None, "merge": True, "beta": 0.0, "recycle.shares": {"pairwise": 2.0}}
    assert words_of(keys) == ["recycle.kinds=[]", "lora=null", "merge=true", "beta=0.0",
                              "recycle.shares={pairwise: 2.0}"]


def test_how_a_run_fits_the_memory_or_is_kept_does_not_make_it_another_one(study_file):
    """A new key of the kit, or record=0 on the command line, would else train every finished run again."""
    study, extra = load_study([str(study_file)])
    folders = [run.folder for run in planned(study, extra)]
    for word in ("record=0", "max_rows=8", "save_every=3", "clip=0.2"):  # the last is the default
        assert [run.folder for run in planned(*load_study([str(study_file), word]))] == folders
    assert not {run.folder for run in planned(*load_study([str(study_file), "clip=0.3"]))} & set(folders)


def test_words_on_the_command_line_reach_every_run_and_the_seeds_come_last(study_file):
    study, extra = load_study([str(study_file), "seeds=[7]", "jobs=2", "lr=1e-4"])
    assert study.jobs == 2
    for run in planned(study, extra):
        assert run.words[-3:] == ("lr=1e-4", "seed=7", f"run_name=studies/{run.folder.name}")


def test_interval_of_one_seed_is_that_of_the_plain_bootstrap():
    """Guards the two matrix products against scipy's own bootstrap over problems."""
    marks = numpy.random.default_rng(0).choice([-1.0, 0.0, 1.0], (1, 200), p=[0.1, 0.6, 0.3])
    low, high = results.interval(marks)
    reference = stats.bootstrap((marks[0],), numpy.mean, method="percentile", n_resamples=10_000,
                                rng=numpy.random.default_rng(1)).confidence_interval
    assert low == pytest.approx(reference.low, abs=0.01) and high == pytest.approx(reference.high, abs=0.01)


def test_interval_counts_what_differs_between_seeds():
    """Problems without any spread, seeds with much: the interval is that of drawing the seeds anew, by brute force."""
    effects = numpy.array([0.0, 0.1, 0.2, 0.5])
    low, high = results.interval(numpy.repeat(effects[:, None], 50, 1))
    draws = numpy.sort(numpy.random.default_rng(2).choice(effects, (100_000, 4)).mean(1))
    assert low == pytest.approx(draws[2_500], abs=0.02) and high == pytest.approx(draws[97_500], abs=0.02)


def test_interval_leaves_out_what_is_not_there():
    """Against all draws there are: 2 seeds of 2, 3 problems of 3. A mark that is not there counts neither as 0 nor in
    what is divided by, and a draw of none but such marks not at all."""
    marks = [[0.1, 0.25, numpy.nan], [0.4, 1.0, 1.0]]
    means = []
    for seeds in product(range(2), repeat=2):
        for problems in product(range(3), repeat=3):
            drawn = [marks[i][j] for i in seeds for j in problems if not numpy.isnan(marks[i][j])]
            means += [sum(drawn) / len(drawn)] if drawn else []
    means.sort()
    assert len(means) == 107
    ends = means[int(0.025 * 107)], means[int(0.975 * 107)]
    assert results.interval(numpy.array(marks)) == pytest.approx(ends)


def test_interval_draws_seeds_and_problems_crosswise():
    """The interval in use, 3 seeds and many problems, by plain loops: a problem that is drawn is so in every seed."""
    generator = numpy.random.default_rng(3)
    of_seeds, of_problems = numpy.array([[-0.2], [0.0], [0.3]]), generator.normal(0, 0.4, 20)
    marks = (of_seeds + of_problems + generator.normal(0, 0.2, (3, 20))).tolist()
    draw, means = random.Random(4), []
    for _ in range(20_000):
        problems = [draw.randrange(20) for _ in range(20)]
        rows = [marks[draw.randrange(3)] for _ in range(3)]
        means.append(sum(row[j] for row in rows for j in problems) / 60)
    means.sort()
    assert results.interval(numpy.array(marks)) == pytest.approx((means[500], means[19_500]), abs=0.01)


def test_a_skill_that_is_no_mean_of_its_marks_keeps_its_own_mean():
    """Balanced accuracy: the marks say how far it is uncertain, not where it lies."""

    def judging(setting: str, skill: float, marks: list[float]) -> results.Outcome:
        return results.Outcome(setting, 1, {"after": {"pointwise": skill}}, {"pointwise": marks})

    alike = results.difference("judging", "after.pointwise", [judging("a", 0.9, [1, 1, 1])],
                               [judging("b", 0.6, [0, 0, 0])])
    assert (alike.mean, alike.low, alike.high) == pytest.approx((0.3, 0.3, 0.3))
    first, second = [1, 1, 1, 0, 1, 1], [1, 0, 1, 1, 0, 0]
    other = results.difference("judging", "after.pointwise", [judging("a", 0.9, first)], [judging("b", 0.6, second)])
    low, high = results.interval(numpy.array([first]) - numpy.array([second]))  # about 1/3
    assert (other.low, other.high) == pytest.approx((low - 1 / 3 + 0.3, high - 1 / 3 + 0.3)) and low < 1 / 3 < high


@pytest.mark.parametrize(("other", "paired"), [
    ({}, {"solve", "pointwise", "pairwise", "reflection", "tts.1"}),
    ({"judge_set.json": '[{"prompt": "Is 9 right?"}]'}, {"solve", "tts.1"}),  # as recycle.view makes it
    ({"config.yaml": "data: gsm8k"}, set()),
    ({"config.yaml": "data: arithmetic\ntemperature: 0.5\ndata_options: {}"}, {"solve", "pointwise", "pairwise",
                                                                               "reflection", "tts.1"}),
])
def test_by_problem_only_what_was_asked_the_same_problems(study_file, other, paired):
    """The k-th of two judge sets are two problems: their difference is a problem's luck, which pairing is to take out.
    Rounds at test time are of the questions themselves, whatever a judge is shown of them."""
    study, extra = load_study([str(study_file)])
    marks = {"solve": [1, 0], "pointwise": [1, 1], "pairwise": [0, 1], "reflection": [1, 0], "tts.1": [1, 1]}
    skills = dict.fromkeys(marks, 0.5) | {"tts": [0.5, 0.5]}
    for run in planned(study, extra):
        files = {"config.yaml": "data: arithmetic", "judge_set.json": '[{"prompt": "Is 8 right?"}]'}
        files |= {f"{when}.json": json.dumps({"skills": skills, "marks": marks}) for when in ("before", "after")}
        files["summary.json"] = json.dumps({"before": skills, "after": skills})
        run.folder.mkdir(parents=True)
        for name, text in (files | (other if run.setting == "policy-only" else {})).items():
            (run.folder / name).write_text(text)
    found = results.outcomes(study, planned(study, extra))
    first, second, before = ([one for one in found if one.setting == name]
                             for name in ("SPARK", "policy-only", "before"))
    for name in marks:
        over = [results.difference(name, f"after.{name}", first, against).over for against in (second, before)]
        assert over == ["seeds and problems" if name in paired else "seeds", "seeds and problems"]


def test_before_training_nothing_was_spent(study_file):
    """The row "before" once had the memory of the run that came after it."""
    study, extra = load_study([str(study_file)])
    run = planned(study, extra)[0]
    run.folder.mkdir(parents=True)
    for when in ("before", "after"):
        (run.folder / f"{when}.json").write_text("{}")
    spent = {"steps": 9, "sampled_tokens": 9, "seconds": {"train": 9.0}, "memory": {"train": 9}}
    (run.folder / "summary.json").write_text(json.dumps({"before": {"solve": 0.1}, "after": {"solve": 0.9}} | spent))
    after, before = results.outcomes(study, [run])
    places = ["steps", "sampled_tokens", "seconds.train", "memory.train"]
    assert [results.figure_at(after.results, place) for place in places] == [9, 9, 9, 9]
    assert [results.figure_at(before.results, place) or 0 for place in places] == [0, 0, 0, 0]
    assert set(after.results) == set(before.results) == {"before", "after", "evaluations", *spent}


def outcome(setting: str, seed: int, solve: list[int], **figures) -> results.Outcome:
    skills = {"solve": sum(solve) / len(solve), "tts": [0.5, 0.6]} | figures
    return results.Outcome(setting, seed, {"after": skills, "sampled_tokens": 100}, {"solve": solve})


@pytest.mark.parametrize("of_evaluations, text", [([], "500"), ([500], "500"), ([300, 500], "500, of evaluate.py 300")])
def test_of_how_many_problems_the_figures_are(of_evaluations, text):
    """evaluate.py may have been given fewer of them than train.py's own evaluation has."""
    made = outcome("SPARK", 3, [1, 0], n=500)
    made.results["evaluations"] = {str(n): {"n": n} for n in of_evaluations}
    assert held_out({"SPARK": [made]}) == text


def test_differences_are_paired_by_seed():
    """A seed that only one of two settings has says nothing about their difference."""
    first = [outcome("a", 1, [1, 1, 0, 0]), outcome("a", 2, [1, 1, 1, 1])]
    second = [outcome("b", 2, [1, 0, 0, 0]), outcome("b", 3, [0, 0, 0, 0])]
    found = results.difference("solve", "after.solve", first, second)
    assert found.by_seed == {2: 0.75} and found.mean == 0.75 and found.over == "seeds and problems"
    assert found.low < 0.75 < found.high
    assert results.difference("solve", "after.solve", first, second[1:]) is None


def test_figures_without_marks_get_an_interval_over_seeds():
    values = [0.1, 0.3, 0.2]
    first = [outcome("a", seed, [1], tts=[0.5, 0.5 + value]) for seed, value in enumerate(values)]
    second = [outcome("b", seed, [1], tts=[0.5, 0.5]) for seed in range(3)]
    found = results.difference("1 round", "after.tts.1", first, second)
    reference = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high)) and found.over == "seeds"


def test_a_column_that_is_not_there_is_a_dash_and_one_that_is_no_number_is_refused():
    assert results.figure_at({"after": {"tts": [1.0]}}, "after.tts.3") is None
    with pytest.raises(ConfigError, match="is no number"):
        results.figure_at({"after": {"tts": [1.0]}}, "after.tts")


@pytest.fixture
def quick_scripts(tmp_path, monkeypatch) -> Path:
    """A train.py in place of the real one, which writes what a run leaves, or fails for seed 4 of policy-only."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text(
        "import json, pathlib, sys\n"
        "words = dict(w.split('=', 1) for w in sys.argv[1:] if '=' in w)\n"
        "if words.get('seed') == '4' and words.get('recycle.kinds') == '[]':\n"
        "    sys.exit('error: a planted failure')\n"
        "folder = pathlib.Path(words.get('resume') or 'runs/' + words['run_name'])\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "with open(folder / 'started', 'a') as file: file.write('x')\n"
        "skills = dict(solve=.5, pointwise=.5, pairwise=.5, reflection=.5, tts=[.5, .5, .5], n=2)\n"
        "for when in ('before', 'after'):\n"
        "    (folder / f'{when}.json').write_text(json.dumps({'skills': skills, 'marks': {'solve': [1, 0]}}))\n"
        "(folder / 'config.yaml').write_text('max_steps: 1')\n"
        "tokens = int(words.get('max_sampled_tokens', 1234))\n"
        "(folder / 'summary.json').write_text(json.dumps({'before': skills, 'after': skills, 'steps': 1,\n"
        "    'sampled_tokens': tokens, 'seconds': {}}))\n"
    )
    monkeypatch.setattr(runs, "ROOT", tmp_path / "scripts")
    return tmp_path


def started(folder: Path) -> dict[str, int]:
    """How often each run was begun, by its name without the digest."""
    return {re.sub("-[0-9a-f]{8}-", "-", path.parent.name): len(path.read_text())
            for path in folder.glob("runs/studies/*/started")}


def test_only_what_is_missing_is_run_and_a_failure_stops_no_other(study_file, quick_scripts):
    study, extra = load_study([str(study_file), "jobs=2"])
    failed = runs.carry_out(study, planned(study, extra), pause=0.05)
    assert [(run.setting, run.seed, why) for run, why in failed.items()] == [
        ("policy-only", 4, "error: a planted failure")]
    assert started(quick_scripts) == ONCE
    runs.carry_out(study, planned(study, extra), pause=0.05)
    assert started(quick_scripts) == ONCE
    text = (write_report(study, "the command", failed, extra) / "report.md").read_text()
    assert "policy-only, seed 4: error: a planted failure" in text and "| before | 50.0" in text
    (one,) = [line for line in text.splitlines() if line.startswith("| SPARK against policy-only | solve")]
    assert "+0.0" in one and "seeds and problems" in one


KILLED = """
import sys
from pathlib import Path
from spark_lib.study import runs
from spark_lib.study.plan import load_study, planned
runs.ROOT = Path(sys.argv[1])
study, extra = load_study(sys.argv[2:])
runs.carry_out(study, planned(study, extra), pause=0.05)
"""


@pytest.mark.parametrize("own", [False, True], ids=["train.py", "a script of its own"])
@pytest.mark.parametrize("at", ["folder.mkdir", "skills = "], ids=["before its folder", "before its config"])
def test_runs_that_outlive_their_study_are_waited_for(study_file, quick_scripts, monkeypatch, at, own):
    """Killed by SIGKILL, a study leaves its runs at work. The same command once deleted their folders under them, and
    began them a second time."""
    script = quick_scripts / "scripts" / "train.py"
    hold = f"open('begun', 'a').write('x')\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n{at}"
    script.write_text("import time\n" + script.read_text().replace(at, hold, 1))
    if own:
        (quick_scripts / "scripts" / "configs" / "studies").mkdir(parents=True)
        script = script.rename(quick_scripts / "scripts" / "configs" / "studies" / "judge_apart.py")
        names = "SPARK: configs/studies/judge_apart.py, policy-only: configs/studies/judge_apart.py"
        study_file.write_text(study_file.read_text() + f"scripts: {{{names}}}\n")
    words = [str(study_file), "seeds=[3]", "jobs=2"]
    first = subprocess.Popen([sys.executable, "-c", KILLED, str(quick_scripts / "scripts"), *words], env=environment())
    wait_for(lambda: Path("begun").exists() and len(Path("begun").read_text()) == 2, first)
    first.kill()
    first.wait()
    told: list[str] = []
    monkeypatch.setattr(runs.tqdm, "write", lambda text: [told.append(text), len(told) == 2 and Path("go").touch()])
    late = threading.Timer(20, Path("go").touch)  # so that a study that does not wait comes to its end
    late.start()
    study, extra = load_study(words)
    assert not runs.carry_out(study, planned(study, extra), pause=0.05)
    late.cancel()
    assert Path("begun").read_text() == "xx" and set(started(quick_scripts).values()) == {1}
    assert [text.split(", ")[0] for text in told] == ["waits: SPARK", "waits: policy-only"]  # once each


def test_what_a_run_leaves_undone_that_outlived_its_study_is_done(study_file, quick_scripts):
    """Waiting must not take the other process' word for it: it may fail, or have been told to do less."""
    study, extra = load_study([str(study_file), "seeds=[3]"])
    run, _ = planned(study, extra)
    log = runs.claimed(run)
    other = subprocess.Popen(["sleep", "1"], stdout=log)
    log.close()
    assert runs.claimed(run) is None
    assert not runs.carry_out(study, planned(study, extra), pause=0.05) and other.poll() == 0
    assert started(quick_scripts) == {"quickstart-as-it-is-3": 1, "quickstart-recycle-kinds-3": 1}


def test_a_setting_waits_for_the_tokens_of_another(study_file, quick_scripts):
    study_file.write_text(study_file.read_text().replace("seeds: [3, 4]", "seeds: [3]") +
                          "same_tokens: {policy-only: SPARK}\n")
    study, extra = load_study([str(study_file)])
    assert not runs.carry_out(study, planned(study, extra)[::-1], pause=0.05)
    (waited,) = Path("runs/studies").glob("*recycle-kinds*/summary.json")
    assert json.loads(waited.read_text())["sampled_tokens"] == 1234


def test_studies_share_the_runs_that_they_have_in_common(study_file, quick_scripts):
    other = study_file.with_name("other.yaml")
    other.write_text(study_file.read_text().replace("policy-only: {recycle.kinds: []}", "sft: {judge_loss: sft}")
                     .replace("SPARK, policy-only", "SPARK, sft"))
    for file in (study_file, other):
        study, extra = load_study([str(file), "seeds=[3]"])
        assert not runs.carry_out(study, planned(study, extra), pause=0.05)
    assert started(quick_scripts) == {"quickstart-as-it-is-3": 1, "quickstart-recycle-kinds-3": 1,
                                      "quickstart-judge_loss-sft-3": 1}


def test_a_run_is_found_again_whatever_a_setting_calls_it(study_file, quick_scripts):
    """judge_share: 0.4 is what the budget says already: the digest was the same, and yet the run was made twice. What
    is another run, or of another seed or config file, is not taken for it."""
    study, extra = load_study([str(study_file), "seeds=[3]"])
    assert not runs.carry_out(study, planned(study, extra), pause=0.05)
    other = study_file.with_name("other.yaml")
    other.write_text(study_file.read_text().replace("SPARK: {}", "said: {judge_share: 0.4}")
                     .replace("policy-only: {recycle.kinds: []}", "less: {judge_share: 0.3}")
                     .replace("SPARK", "said").replace("policy-only", "less"))
    said, of_4, less, _ = planned(*load_study([str(other)]))
    assert said.folder == planned(study, extra)[0].folder and said.words[-1] == f"run_name=studies/{said.folder.name}"
    assert not of_4.folder.exists() and "judge_share-0-4" in of_4.folder.name and not less.folder.exists()
    study, extra = load_study([str(other), "seeds=[3]"])
    assert not runs.carry_out(study, planned(study, extra), pause=0.05)
    assert started(quick_scripts) == {"quickstart-as-it-is-3": 1, "quickstart-recycle-kinds-3": 1,
                                      "quickstart-judge_share-0-3-3": 1}
    copy = study_file.with_name("quick.yaml")
    copy.write_text((REPO / "configs" / "quickstart.yaml").read_text())
    other.write_text(other.read_text().replace(str(REPO / "configs" / "quickstart.yaml"), str(copy)))
    assert {run.folder.name.split("-")[0] for run in planned(*load_study([str(other)]))} == {"quick"}


def test_a_run_goes_on_under_its_own_name_where_it_was_made_twice(study_file):
    """Folders of both names are there from before: none may change its run between two calls."""
    own = planned(*load_study([str(study_file)]))[0].folder
    for label in ("a", "z"):
        Path(str(own).replace("as-it-is", label)).mkdir(parents=True)
    assert planned(*load_study([str(study_file)]))[0].folder.name == own.name.replace("as-it-is", "a")
    own.mkdir()
    assert planned(*load_study([str(study_file)]))[0].folder == own


def test_a_run_that_waits_is_the_same_one_whatever_the_other_is_called(study_file):
    study_file.write_text(study_file.read_text() + "same_tokens: {policy-only: SPARK}\n")
    spark, *_, waits = planned(*load_study([str(study_file), "seeds=[3]"]))
    other = Path(str(spark.folder).replace("as-it-is", "other"))
    other.mkdir(parents=True)
    now = planned(*load_study([str(study_file), "seeds=[3]"]))[-1]
    assert (now.folder, now.after) == (waits.folder, other) and waits.after == spark.folder


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_in_the_same_figures(study_file, tmp_path):
    """The real thing: two settings, two seeds, one step each; killed while two of them are at work, which live on, and
    started again. The figures are those of a study that nothing disturbed."""
    words, quiet = command(study_file, "jobs=2"), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    (tmp_path / "undisturbed").mkdir()
    whole = subprocess.Popen(words, cwd=tmp_path / "undisturbed", env=environment(), **quiet)
    assert whole.wait(400) == 0
    first = subprocess.Popen(words, cwd=tmp_path, env=environment(), **quiet)
    wait_for(lambda: len(list(tmp_path.glob("runs/studies/*.log"))) == 2, first)  # they take as long to begin as we do
    first.kill()  # it alone
    first.wait()
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "another process is at work on it" in done.stdout
    report = (tmp_path / "runs/study-judging/report.md").read_text()
    assert "| SPARK against policy-only | solve |" in report and "| policy-only |" in report
    assert (tmp_path / "runs/study-judging/report.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "undisturbed/runs/study-judging/report.md").read_text() == report


@pytest.mark.parametrize("file", sorted((REPO / "configs" / "studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_study_can_be_meant(file, monkeypatch):
    """A study is an hour of work: what is mistyped in it must not wait until then."""
    monkeypatch.chdir(REPO)
    study, extra = load_study([str(file)])
    assert study.question.endswith("?") and study.expects and study.compare
    assert len(planned(study, extra)) == len(study.settings) * len(study.seeds) >= 6


def test_equal_seconds_and_scripts_of_a_setting_s_own(study_file):
    """A run that stops where another did, and one that train.py does not make, are other runs than those without."""
    folders = {run.setting: run.folder for run in planned(*load_study([str(study_file), "seeds=[3]"]))}
    text = study_file.read_text()
    study_file.write_text(text + "same_seconds: {policy-only: SPARK}\n")
    spark, policy = planned(*load_study([str(study_file), "seeds=[3]"]))
    assert spark.folder == folders["SPARK"] and policy.folder != folders["policy-only"]
    assert (policy.after, policy.equal) == (spark.folder, "seconds")
    spark.folder.mkdir(parents=True)
    (spark.folder / "summary.json").write_text(json.dumps(
        {"sampled_tokens": 7, "seconds": {"sample": 1.5, "verify": 0.25, "train": 2.0, "evaluate": 9.0}}))
    assert runs.equal_to(policy)[-1] == "max_seconds=3.750" and not runs.equal_to(spark)
    study_file.write_text(text + "scripts: {policy-only: configs/studies/judge_apart.py}\n")
    _, apart = planned(*load_study([str(study_file), "seeds=[3]"]))
    assert apart.folder != folders["policy-only"] and apart.script == "configs/studies/judge_apart.py"
    apart.folder.mkdir(parents=True)
    (apart.folder / "config.yaml").touch()  # stopped in the middle: begun again, as it cannot go on
    ((script, *words),) = runs.missing(load_study([str(study_file)])[0], apart)
    assert script == apart.script and words[1:] == list(apart.words) and not runs.goes_on(apart)


@pytest.mark.parametrize(("line", "message"), [
    ("same_seconds: {policy-only: policy-only}", "waits for a setting that itself waits"),
    ("same_seconds: {policy-only: SPARK}\nsame_tokens: {policy-only: SPARK}", "either at the same tokens"),
    ("scripts: {SPARK: nowhere.py}", "there is no nowhere.py"),
    ("scripts: {other: train.py}", "there is no setting 'other'"),
])
def test_limits_and_scripts_that_cannot_be_meant(study_file, line, message):
    study_file.write_text(study_file.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=message):
        load_study([str(study_file)])
