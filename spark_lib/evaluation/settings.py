"""The keys of evaluate.py, from `[run or model] [key=value ...]`."""

from dataclasses import dataclass

from spark_lib.config import ConfigError, check_values, key, leaves, settings_of


@dataclass
class Evaluation:
    """Null in the last six means: as the run was trained, or Config's default for a model."""

    model: str | None = key(None, "a run's folder, or what train.py takes as model; null: the run trained last")
    baseline: str | None = key(None, "another run or model, compared with on the same problems")
    quantization: str = key("none", "of a plain model: nf4 takes a quarter of the memory of bf16, int8 a half; a run "
                            "is evaluated on the base that it was trained on", choices=("none", "nf4", "int8"))
    name: str | None = key(None, "results go to <run>/eval-<name>; null: named after the problems")
    suite: str | None = key(None, "evaluate on a suite of public benchmarks in place of `data`, e.g. text_reasoning")
    benchmarks: list[str] = key([], "evaluate on these benchmarks in place of `data`")
    data_dir: str | None = key(None, "folder with local copies of benchmarks")
    parts: list[str] = key(["samples", "judge", "reflect"], "what to measure beside the accuracy of first answers",
                           choices=("samples", "judge", "reflect", "tournament"))
    limit: int | None = key(200, "problems, of each benchmark; null: all", 1)
    seeds: list[int] = key([0], "random seeds; figures are means over them", 0)
    samples: int = key(8, "answers sampled per problem (k), beside the first one", 1)
    batch: int = key(256, "responses decoded at a time; changes speed and memory only", 1)
    greedy: bool = key(True, "first answers, judgements and reflections are greedy; false: all is sampled, anew for "
                       "each seed, as train.py does")
    rounds: int = key(2, "rounds of judge and reflect", 0)
    accept: str = key("verdict", "an answer is accepted if the verdict is Yes, if P(Yes) reaches the threshold, never",
                      choices=("verdict", "probability", "never"))
    threshold: float = key(0.5, "P(Yes) from which on accept=probability accepts", 0, 1)
    early_stop: bool = key(True, "the first accepted answer is final; false: each round judges every answer again")
    split: str = key("test", "held-out problems to use, see eval.split of train.py", choices=("test", "validation"))
    data: str | None = key(None, "problems to solve, as in train.py")
    view: str | None = key(None, "what a judge sees of a candidate", choices=(None, "answer", "trace", "both"))
    vllm: str | None = key(None, "sample on the vLLM server at this address, as in train.py")
    temperature: float | None = key(None, "at which is sampled, see greedy", 1e-3)
    max_new_tokens: int | None = key(None, "longest response, in tokens", 1)
    max_pixels: int | None = key(None, "larger images are scaled down to it", 784)
    verifier: str | None = key(None, "own rule 'file.py:function', as in train.py")


def load_evaluation(argv: list[str]) -> Evaluation:
    """The Evaluation of a command line `[run or model] [key=value ...]`. Raises ConfigError."""
    named = [word for word in argv if "=" not in word]
    words = [word for word in argv if "=" in word]
    models = named + [word for word in words if word.startswith("model=")]
    if len(models) > 1:
        raise ConfigError(f"expected one run or model, then key=value pairs, but got {' and '.join(models)}")
    settings = settings_of(Evaluation, {}, "evaluate.py", words, leaves(Evaluation))
    settings.model = named[0] if named else settings.model
    check_values(settings)
    if not settings.seeds:
        raise ConfigError("seeds: an empty list leaves nothing to evaluate")
    if settings.suite and settings.benchmarks:
        raise ConfigError("suite: leave out either it or benchmarks")
    return settings
