"""Configuration: what is meant is taken, what cannot be meant is refused in one line that names the key."""

from pathlib import Path

import pytest

from spark_lib.config import Config, ConfigError, Lora, Recycle, load_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture
def yaml_file(tmp_path):
    """yaml_file(text) -> path of a config file."""

    def write(text: str | bytes, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize(
    "words, message",
    [
        # unknown keys, with the nearest real one
        (["grup_size=4"], "group_size"),
        (["recycle.viw=trace"], "recycle.view"),
        (["recyle.view=trace"], "recycle.view"),
        (["weights.reflection=1"], "weights.reflect"),
        (["evl.limit=3"], "eval.limit"),
        (["banana=4"], "banana"),
        (["--lr=1"], "--lr"),
        # wrong types
        (["group_size=many"], "group_size"),
        (["group_size=2.5"], "group_size"),
        (["group_size=true"], "group_size"),
        (["group_size=null"], "group_size"),
        (["group_size="], "group_size"),
        (["lr=small"], "lr"),
        (["recycle.from_start=maybe"], "recycle.from_start"),
        (["recycle.kinds=pointwise"], "recycle.kinds"),
        (["recycle.shares=3"], "recycle.shares"),
        (["recycle.shares={pointwise: x}"], "recycle.shares"),
        (["recycle=5"], "recycle"),
        (["lora.r.x=1"], "lora.r"),
        (["data=[a, b]"], "data"),
        (["recycle.kinds=[pointwise"], "recycle.kinds"),
        # out of range
        (["group_size=1"], "group_size"),
        (["judge_group_size=1"], "judge_group_size"),
        (["lr=-1"], "lr"),
        (["lr=nan"], "lr"),
        (["temperature=0"], "temperature"),
        (["max_new_tokens=0"], "max_new_tokens"),
        (["beta=-0.1"], "beta"),
        (["clip=-0.2"], "clip"),
        (["weights.solve=-1"], "weights.solve"),
        (["recycle.pointwise_right=1.5"], "recycle.pointwise_right"),
        (["recycle.right_at=2"], "recycle.right_at"),
        (["recycle.shares.reflect=-1"], "recycle.shares"),
        (["judge_share=1"], "judge_share"),
        (["lora.dropout=1"], "lora.dropout"),
        (["warmup.steps=0"], "warmup.steps"),
        (["max_sampled_tokens=0"], "max_sampled_tokens"),
        # none of the choices
        (["recycle.view=answers"], "recycle.view"),
        (["recycle.kinds=[pointwise, pairs]"], "recycle.kinds"),
        (["recycle.shares.pairs=1"], "recycle.shares"),
        (["schedule=both"], "schedule"),
        (["loss=ppo"], "loss"),
        (["judge_loss=dpo"], "judge_loss"),
        (["log_with=paper"], "log_with"),
        # each by itself fine, together not
        (["judge_loss=sft", "recycle.kinds=[]"], "judge_loss"),
        (["warmup.data=a.jsonl", "warmup.kinds=[]"], "warmup.kinds"),
        (["recycle.kinds=[solve]"], "recycle.kinds"),
        (["weights.solve=0", "recycle.kinds=[]"], "weights.solve"),
        (["judge_share=0"], "judge_share"),
        (["judge_share=0.001"], "judge_share"),
        (["recycle.kinds=[reflect]", "recycle.shares.reflect=0"], "recycle.shares"),
        # files
        (["nowhere.yaml"], "nowhere.yaml"),
        (["a.yaml", "b.yaml"], "b.yaml"),
        (["resume=nowhere"], "resume"),
        (["a.yaml", "resume=nowhere"], "resume: the folder has its own config"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, message):
    """Guards against hours of training with a setting that was never read: one line, and it names the key."""
    with pytest.raises(ConfigError) as error:
        load_config(words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("grup_size: 4", "group_size"),
        ("recycle:\n  viw: trace", "recycle.view"),
        ("group_size: many", "group_size"),
        ("group_size: 1", "group_size"),
        ("lr: 1\nlr: 2", "duplicate key lr"),
        ("recycle: {kinds: [pointwise", "not valid YAML"),
        ("recycle:\n", "recycle"),
        ("recycle: [pointwise]", "ecycle"),
    ],
)
def test_a_bad_file_is_refused(yaml_file, text, message):
    """Guards the same for files, whose name must be told where it is the file's syntax."""
    with pytest.raises(ConfigError) as error:
        load_config([yaml_file(text)])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", [b"- group_size\n- lr\n", b"model: caf\xe9\n", b"run_name: ${nowhere}\n"], ids=["list", "latin-1", "${…}"]
)
def test_a_file_of_another_kind_is_refused(yaml_file, text):
    """Guards the user who gives a list, an old encoding or an interpolation: one line that names the file."""
    with pytest.raises(ConfigError, match="mine.yaml"):
        load_config([yaml_file(text)])


def test_defaults_then_file_then_command_line(yaml_file):
    """Guards precedence, in sections as well: each level changes only what it names."""
    file = yaml_file("group_size: 4\nlr: 0.1\nrecycle:\n  view: trace\n  shares: {reflect: 2}\nlora: {r: 3}\n")
    config = load_config([file, "lr=0.2", "recycle.shares.pairwise=0", "lora.alpha=6"])
    assert config == Config(
        group_size=4, lr=0.2, run_name="mine", lora=Lora(r=3, alpha=6),
        recycle=Recycle(view="trace", shares={"pointwise": 1.0, "pairwise": 0.0, "reflect": 2.0, "solve": 1.0}),
    )
    assert load_config([file, "lr=0.2", "lr=0.3"]).lr == 0.3  # the last word counts
    assert load_config([yaml_file("")]) == Config(run_name="mine")
    assert load_config([yaml_file("recycle: {kinds: [pairwise]}")]).recycle.kinds == ["pairwise"]


def test_values_get_their_type(yaml_file):
    """Guards YAML's habits: 1e-5 is a text to it and 1 an int, but lr is a float; null is None."""
    config = load_config([yaml_file("lr: 1e-5\nbeta: 1\nmax_sampled_tokens: null\n"), "clip=1", "run_name=5"])
    assert (config.lr, config.beta, config.max_sampled_tokens, config.run_name) == (1e-5, 1.0, None, "5")
    assert isinstance(config.beta, float) and isinstance(config.clip, float)


def test_resume_takes_the_folders_config(tmp_path):
    """Guards resuming: the run goes on with its own settings, not with the quickstart's."""
    (tmp_path / "config.yaml").write_text("group_size: 5\nrun_name: first\n")
    config = load_config([f"resume={tmp_path}", "max_steps=7"])
    assert (config.group_size, config.max_steps, config.run_name, config.resume) == (5, 7, "first", str(tmp_path))


def test_configs_do_not_share_their_lists():
    """Guards mutable defaults: one Config's kinds or shares must not be another's."""
    first, second = Config(), Config()
    first.recycle.kinds.clear()
    first.recycle.shares["pointwise"] = 0.0
    assert second.recycle == Recycle() and Recycle().kinds == ["pointwise", "pairwise", "reflect"]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(file):
    """Guards configs/: a renamed key would break them unnoticed. They hold only what differs from the defaults."""
    config = load_config([str(file)])
    assert config.run_name == file.stem
    assert config != Config(run_name=file.stem)


def test_the_quickstart_is_the_default():
    """Guards `python train.py` without any argument."""
    assert load_config([]) == load_config([str(CONFIGS[0].with_name("quickstart.yaml"))])


@pytest.mark.parametrize(
    "share, judge_group_size, expected",
    [(0.0, 4, 0), (0.25, 4, 11), (0.5, 4, 32), (0.5, 8, 16), (0.2, 8, 4)],
)
def test_judge_problems_spend_judge_share(share, judge_group_size, expected):
    """Guards the budget: of 128 solve responses plus those of the judge problems, judge_share are the latter."""
    config = Config(problems_per_step=16, group_size=8, judge_share=share, judge_group_size=judge_group_size)
    assert config.judge_problems == expected
    judged = expected * judge_group_size
    assert judged / (128 + judged) == pytest.approx(share, abs=0.01)
