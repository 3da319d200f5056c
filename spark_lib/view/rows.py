"""What a step's rollouts become in the record: plain dicts, by docs/record.md."""

import base64
import functools
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

from spark_lib.loss import rows_of_groups
from spark_lib.model.checkpoints import write
from spark_lib.model.vision import content_key, images_of, load_image, text_tokenizer
from spark_lib.problem import Problem
from spark_lib.rewards import said
from spark_lib.rollout import Rollout

VERDICTS = {"pointwise": ("Yes", "No"), "pairwise": ("A", "B")}
SIDE = 160  # pixels of a picture's longer side
Spell = Callable[[int], str]  # a token's id -> its text


def speller(tokenizer) -> Spell:
    """Each token's text by itself. A token that holds a part of a character's bytes reads as U+FFFD."""
    text = text_tokenizer(tokenizer)
    # Behind another token, as some tokenizers leave out the space before a text's first word.
    anchor = text.encode("a", add_special_tokens=False)[-1:]

    def decode(ids: list[int]) -> str:
        return text.decode(ids, clean_up_tokenization_spaces=False)

    before = len(decode(anchor))
    return functools.cache(lambda token: decode([*anchor, token])[before:])


def step_row(
    step: int, groups: list[list[Rollout]], config, spell: Spell, aside: list[list[Rollout]] = (),
    taken_back: bool = False,
) -> dict:
    """One line of the record. groups: all of the step's, as Run.log gets them, the solving first; aside: those that
    were sampled for marks only or left out (Sampler.set_aside); taken_back: the step's updates, as its loss or its
    gradient was not finite."""
    trained = rows_trained(groups, config)
    everything = [*groups, *aside]
    names = {id(r): f"{step}.{g}.{i}" for g, group in enumerate(everything) for i, r in enumerate(group)}
    pictures: dict[str, str] = {}
    return {
        "step": step,
        "groups": [group_row(group, trained.get(id(group)), names, spell, pictures, g >= len(groups), taken_back)
                   for g, group in enumerate(everything)],
        "pictures": pictures,
    }


def rows_trained(groups: list[list[Rollout]], config) -> dict[int, object]:
    """The loss.Row of each group that was learned from, by the group's id: made by the function that the update makes
    its own by, from the groups that it got together (with `schedule: alternate` those of solving had one to
    themselves), so that advantages and weights are the ones used."""
    parts = [groups]
    if config.schedule == "alternate":
        judged = next((i for i, group in enumerate(groups) if "candidates" in group[0].problem.meta), len(groups))
        parts = [groups[:judged], groups[judged:]]
    found = {}
    for part in parts:
        rows = {id(row.responses[0]): row for row in rows_of_groups(part, config)}
        found |= {id(group): rows[id(group[0].response_ids)] for group in part if id(group[0].response_ids) in rows}
    return found


def group_row(
    group: list[Rollout], trained, names: dict[int, str], spell: Spell, pictures: dict[str, str], aside: bool = False,
    taken_back: bool = False,
) -> dict:
    """trained: the group's loss.Row, None if it was dropped. Pictures that are new are put into `pictures`. A judgement
    that was `aside` gave a mark: what would have been right is not known there, so "Yes" only stands for it."""
    problem = group[0].problem
    dropped = None
    if trained is None:
        dropped = "equal rewards" if len({r.reward for r in group}) == 1 else "no weight"
    elif taken_back:  # it had something to teach, and moved nothing
        trained, dropped = None, "not finite"
    if aside:
        dropped = "the judge does not agree" if problem.kind == "solve" else "asked for a mark only"
    shown = []
    for image in images_of(problem):
        shown.append(content_key(image))
        if shown[-1] not in pictures:
            pictures[shown[-1]] = picture(image)
    row = {"kind": problem.kind, "question": problem.meta.get("question", problem.prompt), "prompt": problem.prompt,
           "answer": problem.answer}
    lists = {"choices": problem.choices, "also": problem.also, "context": [list(turn) for turn in problem.context]}
    row |= {name: list(found) for name, found in lists.items() if found}
    row |= {"pictures": shown} if shown else {}
    if about := problem.meta.get("candidates"):
        row |= {"about": [judged(r, names) for r in about], "view": problem.meta["view"]}
    responses = []
    for i, r in enumerate(group):
        one = {"id": names[id(r)], "text": r.text, "finished": r.finished, "reward": r.reward}
        if problem.kind in VERDICTS:
            one["verdict"] = verdict(r)
        if r.truth is not None:
            one["truth"] = r.truth
        one["advantage"] = round(trained.advantages[i], 4) if trained else 0.0
        one["weight"] = float(f"{trained.weights[i]:.4g}") if trained else 0.0
        one["tokens"] = [spell(token) for token in r.response_ids]
        # + 0.0 makes a 0 of -0. What is no number, in a broken run, is no JSON either.
        one["logprobs"] = [round(x, 3) + 0.0 if math.isfinite(x) else None for x in r.logprobs]
        responses.append(one)
    return row | {"dropped": dropped, "responses": responses}


def judged(candidate: Rollout, names: dict[int, str]) -> dict:
    """What a recycled problem is about: the id of a rollout, or what can be said of one that is not in the record (the
    starting model's, with `recycle.from_start`)."""
    if id(candidate) in names:
        return {"id": names[id(candidate)]}
    return {"id": None, "text": candidate.text, "reward": candidate.reward}


def verdict(rollout: Rollout) -> str | None:
    """"Yes", "No", "A" or "B"; None where it was cut off or cannot be read."""
    problem = rollout.problem
    if rollout.reward == 1:  # a verdict is marked by the built-in rule, whatever rule marks the rest
        return problem.answer
    others = [word for word in VERDICTS[problem.kind] if word != problem.answer]
    return next((word for word in others if said(word, [rollout])), None)


def picture(image) -> str:
    """A thumbnail as a data: address; a small image as it is, a large one at most SIDE pixels wide and high."""
    image, kind, file = load_image(image), "png", io.BytesIO()
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
        kind = "jpeg"
    image.save(file, kind, **({"quality": 75} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def keep_pictures(folder: Path, problems: list[Problem]) -> None:
    """<folder>/pictures.json, thumbnails by content_key: for a page that is made without the data at hand."""
    shown = {content_key(image): image for problem in problems for image in images_of(problem)}
    if shown:
        write(folder / "pictures.json", json.dumps({key: picture(image) for key, image in shown.items()}))
