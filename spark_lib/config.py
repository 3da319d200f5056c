"""Config: one documented dataclass is the whole configuration.

`python train.py [config.yaml] [key=value ...]`: the defaults below, then the YAML file (which lists only what
differs), then the command line; dots reach into a section (`recycle.view=trace`). Anything that cannot be meant
(an unknown key, a wrong type, a group of one) raises ConfigError with one line that names the key.
"""

import contextlib
import copy
import dataclasses
import difflib
import importlib.util
import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

SOURCE = "(verifier|majority|judge|judge_probability|majority_and_judge)"  # whose marks are learned from
LARGEST = 2**63 - 1
DEFAULT_FILE = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
ENGINE_CAP = 2.0  # importance_cap where vllm samples and it is not given

# What YAML and OmegaConf raise about text that means no value: "!!int x", "[" a thousand times, …
UNREADABLE = (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError)
# What a terminal would obey instead of showing it, and lone surrogates, which no file can hold.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
BREAKS = re.compile("\\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\\s*")
LONGEST = 700  # characters of an error's line


def visible(text: str) -> str:
    return INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)


class ConfigError(ValueError):
    """What is wrong with the configuration, in one line for the user; of what is too long for one, both ends."""

    def __init__(self, message: str):
        line = visible(BREAKS.sub(" ", message))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


def key(default: Any, meaning: str, low: float | None = None, high: float | None = None, choices: tuple = ()) -> Any:
    """A dataclass field with its meaning (for --help) and the values it may take (for check)."""
    metadata = {"meaning": meaning, "low": low, "high": high, "choices": choices}
    if dataclasses.is_dataclass(default):  # a section, given by its class
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Recycle:
    kinds: list[str] = key(
        ["pointwise", "pairwise", "reflect"],
        "problems made from rollouts; [] is policy-only GRPO. 'solve' (judge_loss=sft only) imitates right solutions",
        choices=("pointwise", "pairwise", "reflect", "solve"),
    )
    view: str = key("both", "what a judge sees of a candidate: final answer, whole trace, or half of each",
                    choices=("answer", "trace", "both"))
    comparison: str = key("characters", "how a demonstration compares answers: character by character, or in "
                          "words, which suits pretrained models", choices=("characters", "words"))
    likeliest: bool = key(False, "demonstrations are made of the right response that was likeliest, not of any")
    shares: dict[str, float] = key(
        {"pointwise": 1.0, "pairwise": 1.0, "reflect": 1.0, "solve": 1.0},
        "how the recycled problems are shared out among the kinds, relative to each other", low=0,
    )
    pointwise_right: float = key(0.5, "share of right candidates in pointwise problems", 0, 1)
    reflect_right: float = key(0.2, "share of right candidates in reflections, else always disagreeing pays", 0, 1)
    right_at: float = key(1.0, "a candidate counts as right from this reward on", 0, 1)
    from_start: bool = key(False, "recycle rollouts of the frozen starting model (the paper's policy&reward baseline)")


@dataclass
class Weights:
    solve: float = key(1.0, "weight of solving in the loss; 0 is the paper's reward-only baseline", 0)
    pointwise: float = key(1.0, "weight of judging one answer", 0)
    pairwise: float = key(1.0, "weight of choosing between two answers", 0)
    reflect: float = key(1.0, "weight of reflecting on an answer", 0)
    imitation: float = key(0.3, "weight of the demonstrations' log-likelihood, with judge_loss=sft", 0)


@dataclass
class Lora:
    r: int = key(16, "rank; lora=null, without a section, trains all weights instead of an adapter", 1)
    alpha: int = key(32, "scale: the update is multiplied by alpha / r", 1)
    dropout: float = key(0.0, "dropout on the adapter's input while training", 0, 0.99)
    target_modules: str = key("all-linear", "which layers: all-linear, or a regular expression on module names")


@dataclass
class Warmup:
    data: str | None = key(None, "problems with worked solutions, given as for `data`: these are imitated before SPARK "
                           "begins, and the result is its starting model. null: no warm-up. See docs/models.md")
    steps: int = key(20, "updates", 1)
    batch: int = key(16, "lessons per update; a lesson is a worked example, or a judgement made of it", 1)
    lr: float = key(2e-4, "learning rate, constant", 0)
    kinds: list[str] = key(["solve", "pointwise", "pairwise", "reflect"], "what to imitate, in equal shares",
                           choices=("solve", "pointwise", "pairwise", "reflect"))


@dataclass
class Noise:
    false_positive: float = key(0.0, "share of wrong responses that the verifier lets pass, for studies", 0, 1)
    false_negative: float = key(0.0, "share of right responses that the verifier calls wrong", 0, 1)
    systematic: bool = key(False, "the same answer always gets the same mark; false: by chance")


@dataclass
class Eval:
    limit: int = key(500, "held-out problems in the evaluations before and after; 0 skips both", 0)
    split: str = key("test", "held-out problems to use: tune on validation, report test once",
                     choices=("test", "validation"))
    rounds: int = key(2, "rounds of judge and reflect at test time", 0)
    max_rows: int = key(512, "responses decoded at a time while evaluating", 1)


@dataclass
class Config:
    seed: int = key(0, "every random choice derives from it", 0)
    run_name: str | None = key(None, "folder under runs/; null: named after the config file. An existing one gets -2 …")
    resume: str | None = key(None, "folder of a stopped run to go on with, e.g. runs/quickstart")
    model: str = key("starter", "'starter', 'starter_vl', or a causal or vision-language model: a folder, a .gguf "
                     "file or a hub id")
    quantization: str = key("none", "of the frozen base: nf4 takes a quarter of the memory of bf16, int8 a half",
                            choices=("none", "nf4", "int8"))
    dense_sampling: bool = key(True, "a quantised model samples from a dense copy, made anew each time; false: slower, "
                               "without the copy's memory")
    data: str = key("arithmetic", "'arithmetic' or 'shapes'; a .jsonl, .json, .csv or .parquet file or a folder of "
                    "them; a hub id 'owner/name[:config]'; or 'reasoning_gym:<task>'. See docs/data.md")
    fields: dict[str, str] = key({}, "where they are not found, the names of the data's fields {prompt, answer, image, "
                                "solution}")
    max_pixels: int = key(401_408, "larger images are scaled down to it; with Qwen2.5-VL 784 of them cost a token", 784)
    data_options: dict[str, Any] = key({}, "of a reasoning_gym task: size, seed and its own options, e.g. max_terms")
    warmup: Warmup = key(Warmup, "")
    max_steps: int = key(100, "optimisation steps", 1)
    max_sampled_tokens: int | None = key(None, "also stop once this many tokens have been sampled", 1)
    max_seconds: float | None = key(None, "also stop once sampling, verifying and learning took so long; such a "
                                    "run is not the same twice", 1)
    save_every: int = key(20, "steps between checkpoints", 1)
    problems_per_step: int = key(16, "problems solved per step", 1)
    group_size: int = key(8, "responses per problem (n)", 2)
    temperature: float = key(1.0, "sampling temperature, in the loss as well", 1e-3)
    max_new_tokens: int = key(512, "longest response, in tokens; longer ones are cut off and get no reward", 1)
    too_long: str = key("drop", "prompts that leave no room for max_new_tokens within the model's positions. drop: "
                        "counted and left out. refuse: the run ends before it begins", choices=("drop", "refuse"))
    max_rows: int = key(256, "responses decoded at a time", 1)
    vllm: str | None = key(None, "sample on the vLLM server at this address, e.g. http://127.0.0.1:8000; null: our own "
                           "loop. See docs/scale.md")
    judge_share: float = key(0.25, "share of a step's responses that goes to recycled problems", 0, 0.99)
    judge_group_size: int = key(4, "responses per recycled problem", 2)
    recycle: Recycle = key(Recycle, "")
    schedule: str = key("joint", "joint: one update for all kinds. alternate: one after solving, one after judging",
                        choices=("joint", "alternate"))
    judge_loss: str = key("grpo", "grpo: sample recycled problems (the paper). sft: imitate demonstrations made from "
                          "own right rollouts, no sampling", choices=("grpo", "sft"))
    verifier: str | None = key(None, "own rule 'file.py:function': (text, problem) -> reward in [0, 1]")
    reward: str = key("verifier", "whose marks are learned from: verifier | majority | judge | judge_probability | "
                      "majority_and_judge, or 'verifier until 30 then judge'; see sampling/labels.py")
    noise: Noise = key(Noise, "")
    balance_verdicts: bool = key(False, "in judging, a rarer right verdict weighs more: 1 / sqrt(its number)")
    loss: str = key("dapo", "how tokens are weighted, see loss.token_weights", choices=("grpo", "dr_grpo", "dapo"))
    weights: Weights = key(Weights, "")
    clip: float = key(0.2, "the importance ratio is clipped to [1 - clip, 1 + clip]", 0)
    importance_cap: float | None = key(None, "weight each token by how much likelier the trained model finds it than "
                                       "its sampler did, at most by this; null: off. With vllm 2, unless given", 1)
    beta: float = key(1e-3, "weight of the KL divergence to the starting model; 0 skips its forward pass", 0)
    updates_per_step: int = key(1, "optimiser updates on the same rollouts; 1 is strictly on-policy", 1)
    lr: float = key(1e-5, "learning rate", 0)
    lr_schedule: str = key("constant", "linear and cosine fall to 0 at max_steps, max_sampled_tokens or max_seconds",
                           choices=("constant", "linear", "cosine"))
    max_grad_norm: float = key(1.0, "gradients are scaled down to this norm", 0)
    warmup_steps: int = key(0, "steps in which the learning rate rises to lr", 0)
    optimizer: str = key("adamw", "8bit: its state in a quarter of the memory; paged: on the CPU when the GPU is full",
                         choices=("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"))
    micro_batch_tokens: int = key(16384, "most tokens in one forward pass of the update", 1)
    activation_checkpointing: bool = key(False, "compute activations again in the backward pass: slower, less memory")
    lora: Lora | None = key(Lora, "")
    merge: bool = key(False, "at the end also write a dense model with the adapter merged in")
    plan: bool = key(False, "only print the GPU memory that the run will need, in parts")
    card: str | None = key(None, "memory of the GPU to plan for, e.g. 24GB; null: the one that is here")
    eval: Eval = key(Eval, "")
    record: int = key(1, "keep every response of every k-th step, for report.html and docs/record.md; 0: of none", 0)
    log_with: str | None = key(None, "experiment tracker, if its package is installed",
                               choices=(None, "tensorboard", "wandb", "trackio"))

    @property
    def judge_problems(self) -> int:
        """Recycled problems per step: what `judge_share` of a step's responses pays for, in groups."""
        solve = self.problems_per_step * self.group_size
        return round(solve * self.judge_share / (1 - self.judge_share) / self.judge_group_size)


def leaves(section=Config, prefix: str = "") -> dict[str, dataclasses.Field]:
    """Every key by its dotted name, in the order of the dataclass."""
    found = {}
    for f in dataclasses.fields(section):
        if dataclasses.is_dataclass(f.default_factory):
            found |= leaves(f.default_factory, f"{prefix}{f.name}.")
        else:
            found[prefix + f.name] = f
    return found


def load_config(argv: list[str]) -> Config:
    """The Config of a command line `[config.yaml] [key=value ...]`; without a file, configs/quickstart.yaml.

    `resume=folder` takes the folder's config.yaml instead. Raises ConfigError.
    """
    files = [word for word in argv if "=" not in word]
    words = [word for word in argv if "=" in word]
    if len(files) > 1:
        raise ConfigError(f"expected one config file, then key=value pairs, but got {' and '.join(files)}")
    resume = [word.split("=", 1)[1] for word in words if word.startswith("resume=")]
    if resume:
        if files:
            raise ConfigError("resume: the folder has its own config; leave the config file out")
        files = [str(Path(resume[-1]) / "config.yaml")]
    file = Path(files[0]) if files else DEFAULT_FILE
    content = read_yaml(file, "resume: no run to go on with," if resume else "no config file,")
    config = settings_of(Config, content, str(file), words, leaves())
    config.run_name = config.run_name or file.stem
    given = {word.split("=")[0] for word in words}
    if not resume or content.get("vllm"):  # what a run without an engine has written down was not said about one
        given |= set(content)
    if config.vllm and "importance_cap" not in given:
        config.importance_cap = ENGINE_CAP
    check(config)
    return config


def read_yaml(file: Path, wanted: str) -> DictConfig:
    """The file's content; `wanted` says what is missing where there is no file. Raises ConfigError."""
    content = None
    try:
        text = io.StringIO(file.read_text(encoding="utf-8"))
        with contextlib.suppress(OSError):  # a lone number or truth value; no file is read here any more
            content = OmegaConf.load(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{wanted} {file} does not exist") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    except OSError as error:  # a folder, no permission, an impossible name
        raise ConfigError(f"{wanted} {file} cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        raise ConfigError(f"{file}: {explain(error)}") from error
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{file}: expected lines 'key: value'")
    return content


def settings_of(section: type, content: dict | DictConfig, source: str, words: list[str], keys: Collection[str]) -> Any:
    """The dataclass `section` with what `source` contains put in, then the words key=value one after another.

    keys: the dotted names of its fields. Raises ConfigError.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(section), content)
    except UNREADABLE as error:
        raise ConfigError(f"{source}: {explain(error, keys=keys)}") from error
    for word in words:
        try:
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([word]))
        except UNREADABLE as error:
            raise ConfigError(f"{word}: {explain(error, word.split('=')[0], keys)}") from error
    try:
        return OmegaConf.to_object(merged)  # resolves every ${reference}
    except UNREADABLE as error:
        raise ConfigError(f"{source}: {explain(error, keys=keys)}") from error


def explain(error: Exception, asked: str = "", keys: Collection[str] = ()) -> str:
    """One line: what was wrong with which key, and the real key nearest to the one `asked` for."""
    name = getattr(error, "full_key", None) or ""
    if name in keys and isinstance(error, ConfigKeyError):
        section, _, rest = name.partition(".")
        return f"in a file, '{name}' is written as  {section}: {{{rest}: …}}"
    if isinstance(error, ConfigKeyError):
        near = difflib.get_close_matches(asked or name, keys, n=1)
        return f"there is no key '{name}'" + (f"; did you mean '{near[0]}'?" if near else "; see --help for all keys")
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{name}: {first}" if name else first


def check_values(config: Any) -> None:
    """Raise ConfigError for a value that its own key does not allow; config: a dataclass of keys."""
    for name, f in leaves(type(config)).items():
        value = config
        for part in name.split("."):
            value = getattr(value, part, None)  # a section may be null
        low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
        for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]:
            if choices and item not in choices:
                raise ConfigError(f"{name}: '{item}' is none of {', '.join(map(str, choices))}")
            if isinstance(item, int | float) and not abs(item) <= LARGEST:
                raise ConfigError(f"{name}: must be a number that a computer holds, got {item}")
            if isinstance(item, str) and "${" in item:
                raise ConfigError(f"{name}: '{item}' has a ${{, which config.yaml would hold for a reference")
            if low is not None and isinstance(item, list | dict):  # OmegaConf lets a list in a list pass for a number
                raise ConfigError(f"{name}: expected a number, got '{item}'")
            if item is not None and low is not None and not item >= low:
                raise ConfigError(f"{name}: must be at least {low}, got {item}")
            if item is not None and high is not None and not item <= high:
                raise ConfigError(f"{name}: must be at most {high}, got {item}")


def check(config: Config) -> None:
    """Raise ConfigError for a value that cannot work."""
    check_values(config)
    if not re.fullmatch(rf"{SOURCE}( until \d+ then {SOURCE})?", config.reward):
        raise ConfigError(f"reward: '{config.reward}' is none of {SOURCE[1:-1].replace('|', ', ')}, nor two of them "
                          "like 'verifier until 30 then judge'")
    if "judge_probability" in config.reward and config.recycle.right_at == 1:
        raise ConfigError("recycle.right_at: no probability reaches 1; with judge_probability set it, e.g. to 0.5")
    name = Path(config.run_name)
    if not name.parts or name.is_absolute() or ".." in name.parts or not config.run_name.isprintable():
        raise ConfigError(f"run_name: expected the name of a folder under runs/, got '{config.run_name}'")
    if config.log_with and not importlib.util.find_spec(config.log_with):
        raise ConfigError(f"log_with: the package is not installed; pip install {config.log_with}")
    if unknown := set(config.fields) - {"prompt", "answer", "image", "solution"}:
        raise ConfigError(f"fields: there is no '{unknown.pop()}'; name the fields of prompt, answer, image, solution")
    if config.warmup.data and not config.warmup.kinds:
        raise ConfigError("warmup.kinds: an empty list leaves nothing to imitate")
    if config.lora is None and config.quantization != "none":
        raise ConfigError(f"lora: null trains all weights, which quantization={config.quantization} cannot; keep one")
    if config.card and not re.fullmatch(r"\d+(\.\d+)? ?GB", config.card):
        raise ConfigError(f"card: expected its memory, e.g. 24GB, got '{config.card}'")
    kinds, recycle = config.recycle.kinds, config.recycle
    if unknown := set(recycle.shares) - set(leaves()["recycle.kinds"].metadata["choices"]):
        raise ConfigError(f"recycle.shares: there is no kind '{unknown.pop()}'")
    if kinds and sum(recycle.shares.get(kind, 0) for kind in kinds) <= 0:
        raise ConfigError(f"recycle.shares: all of {', '.join(kinds)} are 0, so nothing would be recycled")
    if kinds and config.judge_problems < 1:
        raise ConfigError(
            f"judge_share: {config.judge_share} of {config.problems_per_step} x {config.group_size} responses pays for "
            "no recycled problem; raise it, or set recycle.kinds=[] for policy-only training"
        )
    if config.judge_loss == "sft" and not kinds:
        raise ConfigError("judge_loss: sft has nothing to imitate while recycle.kinds is empty")
    if config.judge_loss == "grpo" and "solve" in kinds:
        raise ConfigError("recycle.kinds: 'solve' is for judge_loss=sft only")
    if config.weights.solve == 0 and not kinds:
        raise ConfigError("weights.solve: 0 while recycle.kinds is empty leaves nothing to train")
