r"""Answers made of answers: lists, sets, tuples, intervals, matrices, equations, chains of relations.

Each rule takes (answer, gold, same): two tidied texts, and the comparison for their parts. It gives None where it does
not apply. A part is compared by all rules again, so that a list may hold quantities and a matrix fractions.
"""

from __future__ import annotations

import re

from spark_lib.answers import equivalence
from spark_lib.answers.numbers import number
from spark_lib.answers.spelling import COMMA, GREEK, ORDER, TURNED, fence, split, tokens

# --- names ----------------------------------------------------------------------------------------------------------

_GREEK = "|".join(GREEK)
_BASE = (
    r"(?:\\text ?\{[^{}]*\}|\\(?:vec|hat|bar|overline|widehat|tilde|dot|ddot|mathbb|mathcal) ?\{ ?[A-Za-z]+ ?\}"
    rf"|\\(?:{_GREEK})(?![A-Za-z])|[A-Z]+(?: [A-Z])*(?![a-z])|[a-z](?![a-z])|[A-Za-z]{{4,}}|max|min|sum|ans|avg)"
)
_NAME = re.compile(
    rf"(?:\\lim ?_\{{[^{{}}]*\}} ?|m? ?\\angle ?|\\triangle ?|\\Delta ?(?=[A-Za-z\\])|\\(?:max|min|det) ?)*{_BASE}"
    rf"(?: ?_ ?\{{[^{{}}]*\}}|'|\^ ?\{{-1\}})*(?: ?\([^()]*\)|\[[A-Z]\])?"
    rf"|\|(?:[A-Z]{{2,}}|\\vec ?\{{[a-z]\}})\||\[[A-Z]{{3,}}\]|\\frac\{{ ?d[^{{}}]*\}}\{{ ?d[^{{}}]*\}}"
)
_EQUALS = r"=|\\approx(?![A-Za-z])"
_RELATIONS = r"\\(?:le|ge|ne|in|notin)(?![A-Za-z])|[<>]"
# Signs whose two sides may not be exchanged, nor one of them dropped.
_OPERATORS = (
    r"(?<!\^)\\circ(?![A-Za-z])|\\(?:cup|cap|mid|nmid|to|mapsto|Rightarrow|iff|subseteq|subset|supset|supseteq|notin|in|ni"
    r"|parallel|perp|cong|sim|simeq|propto|ne|equiv|therefore|because|neg)(?![A-Za-z])"
)


def _is_name(text: str) -> bool:
    letters = re.fullmatch(r"\(([a-z](?:, ?[a-z])+)\)", text)  # (x, y) = (1, 2), but (y, x) is not the usual order
    return bool(_NAME.fullmatch(text)) if not letters else sorted(letters[1].split(",")) == letters[1].split(",")


def same_equation(answer: str, gold: str, same) -> bool | None:
    r"""x = \frac62 = 3 is 3, and 5 = x is 5; 4 = 3, \sqrt{x} = 5 and x = 3 if x = 4 are no 3 or 5.

    None if neither has an equals sign, or both are equations that only mathematics can compare.
    """
    sides, gold_sides = _sides(answer), _sides(gold)
    if len(sides) == len(gold_sides) == 1:
        return None if sides == [answer] and gold_sides == [gold] else same(sides[0], gold_sides[0])
    if any(split(text, rf"{_RELATIONS}|{_OPERATORS}")[1] for text in (answer, gold)):
        return False
    named, gold_named = _is_name(sides[0]), _is_name(gold_sides[0])
    if len(gold_sides) == 1:
        return _chain(sides[named:], gold, same, named) and not (named and _recurs(sides))
    if not gold_named:
        return None if len(sides) == len(gold_sides) == 2 and not (named and _constant(sides[1])) else False
    if len(sides) == 1:
        return same(answer, gold_sides[-1]) and not _recurs([gold_sides[0], answer])
    if named and tokens(sides[0]) == tokens(gold_sides[0]):
        last, meant = (re.sub(r"(?<=[0-9]) ?(?=[A-Za-z]$)", r"\\cdot ", each[-1]) for each in (sides, gold_sides))
        return _chain([*sides[1:-1], last], meant, same, named) and not _recurs(sides)  # y = 2m is no length
    return False if _constant(gold_sides[-1]) else None


def _sides(text: str) -> list[str]:
    r"""The sides of an equation, a name first: 5 = x is turned; of "1/3 \approx 0.33" only what comes first."""
    sides, signs = split(text, _EQUALS)
    if not signs:
        return [text]
    if r"\approx" in signs:
        place = signs.index(r"\approx")
        if place or not _is_name(sides[0]):
            sides = sides[: place + 1]
    if len(sides) == 2 and _is_name(sides[1]) and not _is_name(sides[0]):
        sides = sides[::-1]
    return sides


def _chain(sides: list[str], gold: str, same, named: bool) -> bool:
    r"""Whether the last side and each that is a number are the answer. Between a name and its value may stand a
    formula: A = \pi r^2 = 4\pi; without a name it would be another question: \sqrt{x} = 5."""
    if any(re.search(r"(?<![A-Za-z\\])[A-Za-z]{4}|[0-9] +\\?[A-Za-z]+$|\\text", side) for side in sides[:-1]):
        return False  # x = 4 y = 3, x = 4 is wrong = 3
    values = [side for i, side in enumerate(sides[:-1]) if _constant(side) or i == 0 and not named]
    return all(same(side, gold) for side in [sides[-1], *values])


def _constant(side: str) -> bool:
    return not re.search(r"(?<![A-Za-z\\])[A-Za-z]", re.sub(r"\\text ?\{[^{}]*\}", "", side)) and not re.search(
        rf"\\(?:{'|'.join(name for name in GREEK if name != 'pi')})(?![A-Za-z])", side
    )


def _recurs(sides: list[str]) -> bool:
    """Whether the name that is told stands in what is told of it: x = 3 if x = 4."""
    return bool(re.search(rf"(?<![A-Za-z\\]){re.escape(sides[0])}(?![A-Za-z])", " = ".join(sides[1:])))


def same_operation(answer: str, gold: str, same) -> bool | None:
    r"""a \in B, f \circ g, a \mid b, p \to q, \neg p: the same signs, and the same on each side of them."""
    (parts, signs), (gold_parts, gold_signs) = split(answer, _OPERATORS), split(gold, _OPERATORS)
    if not (signs or gold_signs):
        return None
    if signs != gold_signs:
        return False
    if set(signs) in ({r"\cup"}, {r"\cap"}):
        return sorted(map(tokens, parts)) == sorted(map(tokens, gold_parts))
    pairs = zip(parts, gold_parts, strict=True)
    return all(a == b or bool(a and b) and (tokens(a) == tokens(b) or same(a, b)) for a, b in pairs)


_SET = re.compile(rf"{ORDER}|\\(?:ne|cup|cap|setminus|mathbb|emptyset|in)(?![A-Za-z])")


def same_set(answer: str, gold: str, same) -> bool | None:
    """Inequalities, chains of them, and unions of intervals: the same signs between the same sides, or the same set."""
    if not (_SET.search(answer) or _SET.search(gold)):
        return None
    (sides, signs), (gold_sides, gold_signs) = _ascending(answer), _ascending(gold)
    if signs and signs == gold_signs and "" not in sides + gold_sides:
        if all(tokens(a) == tokens(b) or same(a, b) for a, b in zip(sides, gold_sides, strict=True)):
            return True
    return equivalence.WORKER.equivalent(gold, answer) or None


def _ascending(text: str) -> tuple[list[str], list[str]]:
    """The sides of a chain and its signs, turned so that a > b is b < a."""
    sides, signs = split(text, ORDER)
    if signs and all(sign in TURNED for sign in signs):
        return sides[::-1], [TURNED[sign] for sign in signs[::-1]]
    return sides, signs


# --- lists ----------------------------------------------------------------------------------------------------------

_AND, _OR = ("and", "AND", r"\land", "&", "和"), ("or", "OR", r"\lor", "或")
_SEPARATOR = rf"{COMMA}|&|(?<![A-Za-z\\])(?:and|or|AND|OR)(?![A-Za-z])|\\(?:land|lor)(?![A-Za-z])|[或和]"
_LONGEST = 64  # elements


def _signs_apart(text: str) -> list[str] | None:
    r"""-1 \pm 2 as [-1 + 2, -1 - 2]; None if it has no such sign, or several that may be chosen apart."""
    count = text.count(r"\pm")
    if count + text.count(r"\mp") == 0 or count > 1 and r"\mp" not in text:
        return None
    return [text.replace(r"\pm", a).replace(r"\mp", b) for a, b in (("+", "-"), ("-", "+"))]


def _elements(text: str) -> tuple[list[str], set[str]]:
    """The elements of a list and the kinds of its separators, "x = 1, 2" as "x = 1" and "x = 2"."""
    parts, signs = split(text, _SEPARATOR)
    kinds = {"and" if sign in _AND else "or" if sign in _OR else "," for sign in signs}
    if len(kinds) > 1 and "," in kinds:  # 1, 2, and 3
        kinds -= {","}
        parts = [part for i, part in enumerate(parts) if part or i in (0, len(parts) - 1)]
    elements = [each for part in parts for each in (not part.startswith(r"\{") and _signs_apart(part)) or [part]]
    first = _sides(elements[0])
    if len(elements) > 1 and len(first) == 2 and _is_name(first[0]) and not any("=" in each for each in elements[1:]):
        if not any(fence(each) for each in elements):
            elements = [f"{first[0]} = {each}" for each in (first[1], *elements[1:])]
    return elements, kinds


def same_list(answer: str, gold: str, same) -> bool | None:
    """The same elements, each as often, in any order; in their order where a tuple or a row with dots is meant."""
    (said, kinds), (meant, gold_kinds) = _elements(answer), _elements(gold)
    if len(said) == len(meant) == 1:
        return None
    if r"\pmod" in answer + gold:
        return None if len(said) == len(meant) else False
    fences = fence(answer), fence(gold)
    if len(said) == 1 and fences[0] or len(meant) == 1 and fences[1]:
        return _list_and_fence(said, meant, fences, same)
    if len(said) != len(meant) or len(said) > _LONGEST or "" in said + meant:
        return False
    if kinds != gold_kinds and "," not in kinds | gold_kinds and kinds and gold_kinds:
        return False  # "and" for "or"
    if len(kinds) > 1 or r"\ldots" in answer + gold:
        return all(same(a, b) for a, b in zip(said, meant, strict=True))
    names, gold_names = _named(said), _named(meant)
    if bool(names) != bool(gold_names) and len(set(names or gold_names)) > 1:  # 1, 2 for x = 1, y = 2
        return all(same(a, b) for a, b in zip(_by_name(said), _by_name(meant), strict=True))
    return _matched(said, meant, same)


def _named(elements: list[str]) -> list[str]:
    names = [_sides(each)[0] for each in elements if len(_sides(each)) == 2 and _is_name(_sides(each)[0])]
    return names if len(names) == len(elements) else []


def _by_name(elements: list[str]) -> list[str]:
    """y = 2, x = 1 as 1, 2; other elements as they are."""
    names = _named(elements)
    return [_sides(each)[-1] for _, each in sorted(zip(names, elements, strict=True))] if names else elements


def _matched(said: list[str], meant: list[str], same) -> bool:
    """Whether each element of `said` is one of `meant`, no two the same one."""
    left = list(meant)
    for each in said:
        place = next((i for i, other in enumerate(left) if same(each, other)), None)
        if place is None:
            return False
        del left[place]
    return True


def _list_and_fence(said: list[str], meant: list[str], fences, same) -> bool:
    r"""1, 2 is \{2, 1\}, and (1, 2) in this order; no interval."""
    is_answer = len(said) == 1 and fences[0]
    opening, inner, closing = fences[0] if is_answer else fences[1]
    if opening == r"\{":
        said, meant = (_members(inner, same), meant) if is_answer else (said, _members(inner, same))
        return len(said) == len(meant) and _matched(said, meant, same)
    items = split(inner, COMMA)[0]
    said, meant = (items if is_answer else _by_name(said)), (_by_name(meant) if is_answer else items)
    in_order = opening + closing == "()" and len(said) == len(meant)
    return in_order and all(same(a, b) for a, b in zip(said, meant, strict=True))


def _members(inner: str, same) -> list[str]:
    """The members of a set, each once."""
    kept: list[str] = []
    for item in split(inner, COMMA)[0][:_LONGEST]:
        kept += [each for each in _signs_apart(item) or [item] if not any(same(each, other) for other in kept)]
    return kept


# --- sets, tuples, intervals, matrices ------------------------------------------------------------------------------


def same_fence(answer: str, gold: str, same) -> bool | None:
    """Sets in any order; tuples and intervals in theirs, with the same brackets. None if either is something else."""
    said, meant = fence(answer), fence(gold)
    if not (said or meant):
        return None
    if not (said and meant):
        inside, other = (said, gold) if said else (meant, answer)
        single = len(split(inside[1], COMMA)[0]) == 1 and not fence(inside[1])
        if single and (inside[0] + inside[2] == "()" or inside[0] == r"\{" and number(other)):  # (5 cm), \{5\}
            return same(inside[1], other) if said else same(other, inside[1])
        return None
    if r"\{" in (said[0], meant[0]):
        if said[0] != meant[0] or re.search(r"\\mid|[|:]", said[1] + meant[1]):
            return False  # a set by its rule counts only as it is written
        items, gold_items = _members(said[1], same), _members(meant[1], same)
        return len(items) == len(gold_items) and "" not in items + gold_items and _matched(items, gold_items, same)
    items, gold_items = split(said[1], COMMA)[0], split(meant[1], COMMA)[0]
    if len(items) == len(gold_items) == 1 and said[0] + said[2] == meant[0] + meant[2] == "()":
        return same(items[0], gold_items[0])
    if len(items) == 1 or len(gold_items) == 1:
        return None
    if (said[0], said[2]) != (meant[0], meant[2]) or len(items) != len(gold_items) or "" in items + gold_items:
        return False
    return all(same(a, b) for a, b in zip(items, gold_items, strict=True))


def _matrix(text: str) -> tuple[str, list[list[str]]] | None:
    """(kind, rows) of a matrix, with a factor before it multiplied in."""
    match = re.fullmatch(r"(.*?)\\begin ?\{(\w+)\}(?:\{[lcr|]*\})?(.*?)\\end ?\{\2\}", text, re.DOTALL)
    if not match or r"\begin" in match[3]:
        return None
    factor = match[1].strip(" *").removesuffix(r"\cdot").strip()
    rows = [split(row, "&")[0] for row in split(match[3], r"\\\\")[0]]
    if factor and match[2] == "matrix":
        factor = "-1" if factor == "-" else factor
        rows = [[rf"({factor}) \cdot ({cell})" for cell in row] for row in rows]
    return (match[2] if match[2] == "matrix" else match[1] + match[2]), rows


def same_matrix(answer: str, gold: str, same) -> bool | None:
    """The same cells in the same places, whatever the brackets; a determinant is no matrix."""
    if r"\begin" not in answer + gold:
        return None
    said, meant = _matrix(answer), _matrix(gold)
    if not (said and meant) or said[0] != meant[0] or [*map(len, said[1])] != [*map(len, meant[1])]:
        return False
    cells = ([cell for row in rows for cell in row] for _, rows in (said, meant))
    return all(same(a, b) for a, b in zip(*cells, strict=True))
