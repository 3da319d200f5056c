"""Command lines and config files that nobody meant: every answer is a configuration or one line, never a traceback.

FUZZ=20000 pytest tests/test_config_fuzz.py tries more; docs/reliability.md has the counts.
"""

import os
import random
import unicodedata

import pytest
from omegaconf import OmegaConf

from spark_lib.config import LONGEST, ConfigError, leaves, load_config
from spark_lib.evaluation.settings import Evaluation, load_evaluation

COUNT = int(os.environ.get("FUZZ", 150))
SECTIONS = ["lora", "recycle", "weights", "warmup", "eval"]
MEANT = [  # for one key or another
    "null", "0", "1", "2", "0.5", "1e-5", "true", "no", "[]", "{}", "[pointwise]", "[solve]", "none", "nf4", "24GB",
    "sft", "joint", "trace", "starter", "{reflect: 2}", "{prompt: q}", "{size: 5}", "[1, 2]", "grpo", "alternate",
]
VALUES = [
    # numbers
    "nan", ".nan", "inf", "-.inf", "1e400", "-1", "-0.0", "9" * 30, "9" * 400, "9" * 5000, "9" * 400 + "GB", "0x10",
    "1_0", "1:30", "1.", "2020-01-01",
    # structures
    "[a, b]", "[[1]]", "[null]", "[pointwise, pointwise]", "{a: 1}", "{a: {b: 1}}", "{null: 1}", "{1: 2}",
    "{? [a] : b}", "&a [*a]", "*a", "&a", "{a: &b 1, c: *b}", "- x", "<<", "[" * 2000, "{a: " * 500,
    "{a: " * 300 + "1" + "}" * 300,
    # YAML's tags, OmegaConf's references
    "!!int x", "!!float x", "!!binary aGk=", "!!set {a}", "!!python/object/apply:os.getcwd []", "${seed}", "${nowhere}",
    "${oc.env:HOME}", "${oc.env:NO_SUCH_NAME}", "${", "a${b", "\\${x}", "???",
    # text
    "", " ", "a=b=c", "=", "==", "a: b", "'", '"', "[", "]", "{", "}", "# c", "%", "@", "`", "|", ">", "\n", "a\nb",
    "a\r\nb", "\t", "\0", "\x1b[2J", "\u202e", "\u2028", "\ud800", "ü✓", "\N{SNAKE}", "x" * 5000, "~/x", "/", "..", ".",
]
NAMES = ["", "=", "ü", "\0", "a b", "[0]", "--lr", "recycle.kinds[0]", "recycle.shares.pairs", "data_options.a.b",
         "fields.prompt", "lora.r.x", "seed.", ".seed", "SEED", "resume", "\ud800"]
WORDS = ["", " ", "=", "a.yaml", "/", "/proc/self/mem", "x" * 5000, "\0", "\ud800", "--", "-x", "{a: 1}", "\x1b[2J"]
DAMAGE = [b"", b"\xff", b"\0", b"\n---\n", b"\t", b"]", b"\n  "]


def answer(load, *words: str) -> object | None:
    """The configuration, or None where it is refused: in one line that can be shown as it is."""
    try:
        return load(list(words))
    except ConfigError as error:
        line = str(error)
        assert 0 < len(line) <= LONGEST + 10 and line.strip()
        assert not [c for c in line if c != "\t" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")], repr(line)
        return None


def some_words(rng: random.Random, keys: list[str]) -> list[str]:
    """One to three words key=value, a few of them no such thing at all."""
    words = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = rng.choice(keys) if rng.random() < 0.85 else rng.choice(NAMES)
        words.append(f"{name}={rng.choice(rng.choice([MEANT, VALUES]))}" if rng.random() < 0.95 else rng.choice(WORDS))
    return words


def a_file(rng: random.Random, keys: list[str]) -> bytes:
    """A config file of one to three keys, some nested, some damaged."""
    lines = []
    for _ in range(rng.choice([1, 2, 3])):
        name = rng.choice(keys) if rng.random() < 0.8 else rng.choice([*NAMES, *SECTIONS])
        section, dot, rest = name.partition(".")
        value = rng.choice(rng.choice([MEANT, VALUES]))
        lines.append(f"{section}:\n  {rest}: {value}" if dot and rng.random() < 0.8 else f"{name}: {value}")
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        place = rng.randrange(len(content) + 1)
        content = content[:place] + rng.choice(DAMAGE) + content[place + 1 :]
    return content


def test_command_lines():
    """Guards the user's terminal: hours were never lost to a traceback here, but trust is."""
    rng, taken = random.Random(0), 0
    for _ in range(COUNT):
        words = some_words(rng, [*leaves(), *SECTIONS])
        taken += answer(load_config, *words) is not None
    assert COUNT * 0.02 < taken < COUNT * 0.5  # both answers are tried


def test_command_lines_of_evaluate():
    rng, taken = random.Random(1), 0
    for _ in range(COUNT // 3):
        taken += answer(load_evaluation, *some_words(rng, list(leaves(Evaluation)))) is not None
    assert COUNT // 3 * 0.02 < taken < COUNT // 3 * 0.5


def test_files(tmp_path):
    """Guards the same for files. What is taken must read back from the run's folder as it was, or no run resumes."""
    rng, taken = random.Random(2), 0
    for _ in range(COUNT // 3):
        (tmp_path / "mine.yaml").write_bytes(a_file(rng, list(leaves())))
        config = answer(load_config, str(tmp_path / "mine.yaml"))
        if config is not None:
            taken += 1
            OmegaConf.save(OmegaConf.structured(config), tmp_path / "config.yaml")
            again = load_config([f"resume={tmp_path}"])
            again.resume = config.resume
            assert again == config
    assert COUNT // 3 * 0.02 < taken < COUNT // 3 * 0.7


@pytest.mark.parametrize("words, message", [
    (["lr=inf"], "lr: must be a number that a computer holds, got inf"),
    (["recycle.shares.reflect=nan"], "recycle.shares: must be a number"),
    (["seed=" + "9" * 30], "seed: must be a number"),
    (["lr=" + "9" * 400], "int too large to convert to float"),
    (["max_steps=!!int x"], "max_steps=!!int x: invalid literal"),
    (["data_options=[]"], "data_options=[]: "),
    (["model=${nowhere}"], "nowhere"),
    (["model=\\${nowhere}"], "model: '${nowhere}' has a ${"),
    (["lr=a\nb"], "lr=a b: "),
    (["model=\ud800"], "model="),
    (["run_name=../../etc"], "run_name: expected the name of a folder under runs/"),
    (["run_name=/etc"], "run_name: expected"),
    (["/"], "/ cannot be read: Is a directory"),
    (["x" * 5000], "cannot be read: File name too long"),
    (["a\0.yaml"], "embedded null byte"),
])
def test_what_once_got_through(words, message):
    """Each was a traceback, a line feed in the one line, or a run that could not have worked."""
    with pytest.raises(ConfigError) as error:
        load_config(words)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("words", [
    ["samples=" + "9" * 30], ["seeds=[[1]]"], ["max_pixels=${nowhere}"], ["limit=!!int x"],
])
def test_what_once_got_through_in_evaluate(words):
    with pytest.raises(ConfigError, match=words[0].split("=")[0]):
        load_evaluation(words)


@pytest.mark.parametrize("text, message", [
    ("5", "expected lines 'key: value'"),
    ("true", "expected lines 'key: value'"),
    ("lora.r: 3", "in a file, 'lora.r' is written as  lora: {r: …}"),
    ("data_options: {x: &a [1, *a]}", "recursive aliases"),
    ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "data_options: {d: [*c,*c,*c,*c,*c,*c,*c,*c,*c]}", "aliases expand"),  # a file that would fill the memory
])
def test_files_that_once_got_through(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match="mine.yaml") as error:
        load_config([str(tmp_path / "mine.yaml")])
    assert message in str(error.value)


def test_an_anchor_may_be_used_twice(tmp_path):
    """What YAML allows and people use is not refused with what cannot be meant."""
    (tmp_path / "mine.yaml").write_text("recycle: &r {view: trace}\ndata_options: {a: &x [1, 2], b: *x}\n<<: {seed: 3}")
    config = load_config([str(tmp_path / "mine.yaml")])
    assert config.data_options == {"a": [1, 2], "b": [1, 2]} and (config.seed, config.recycle.view) == (3, "trace")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config([str(path)])


def test_a_long_line_keeps_both_ends():
    """The key stands at its beginning and what was expected at its end."""
    line = str(ConfigError(f"lr: {'9' * 5000} is no number"))
    assert line.startswith("lr: 999") and line.endswith("999 is no number") and len(line) <= LONGEST + 10
