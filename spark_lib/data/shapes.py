"""Shapes: pictures of coloured shapes with countable answers, made here, so that images need no download either.

A picture has 3 x 3 cells, each empty or with one shape of one colour, a little out of place, size and hue. "How many
red squares are there?" is asked of it. The count is drawn first and the cells are filled to match, so that 0 to 6 are
equally likely whatever is asked: without the picture, or with another one, one answer in seven is right.
"""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

COLORS = {"red": (214, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 220), "yellow": (235, 190, 20)}
SHAPES = ("circle", "square", "triangle")
EMPTY = ("empty", "cell")
CELL, GRID, MOST = 16, 3, 6  # pixels along a cell, cells along the picture, the largest count


@dataclass(frozen=True)
class Scene:
    """What a picture shows and what is asked of it.

    cells: (colour, shape) row by row, EMPTY where there is none. color, shape: what to count; None means any.
    """

    cells: tuple[tuple[str, str], ...]
    color: str | None
    shape: str | None

    def counts(self, cell: tuple[str, str]) -> bool:
        return cell != EMPTY and self.color in (None, cell[0]) and self.shape in (None, cell[1])

    @property
    def answer(self) -> int:
        return sum(map(self.counts, self.cells))

    @property
    def key(self) -> str:
        """The picture in words, whatever is asked of it: what training and held-out pictures are told apart by."""
        return ", ".join(map(" ".join, self.cells))

    @property
    def question(self) -> str:
        """The mark says where the picture stands: at the end of every prompt, as the question does."""
        return f"<image>How many {self.color + ' ' if self.color else ''}{self.shape or 'shape'}s are there?"


def scene(rng: random.Random) -> Scene:
    """One question in three is of a colour, of a shape, of both."""
    color, shape = rng.choice(list(COLORS)), rng.choice(SHAPES)
    asked = rng.choice(((color, None), (None, shape), (color, shape)))
    blank = Scene((), *asked)
    every = [(color, shape) for color in COLORS for shape in SHAPES]
    matching = [cell for cell in every if blank.counts(cell)]
    others = [cell for cell in every if not blank.counts(cell)]
    count = rng.randint(0, MOST)
    cells = [rng.choice(matching) for _ in range(count)]
    cells += [EMPTY if rng.random() < 0.25 else rng.choice(others) for _ in range(GRID**2 - count)]
    rng.shuffle(cells)
    return Scene(tuple(cells), *asked)


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """The picture, 48 x 48 pixels on a grey ground; rng moves, scales and tints each shape."""
    ground = rng.randint(225, 255)
    image = Image.new("RGB", (GRID * CELL, GRID * CELL), (ground, ground, ground))
    pencil = ImageDraw.Draw(image)
    for i, (color, shape) in enumerate(scene.cells):
        if (color, shape) == EMPTY:
            continue
        size = rng.randint(9, 12)
        left = i % GRID * CELL + rng.randint(1, CELL - size - 2)
        top = i // GRID * CELL + rng.randint(1, CELL - size - 2)
        box = (left, top, left + size, top + size)
        tint = tuple(max(0, min(255, channel + rng.randint(-25, 25))) for channel in COLORS[color])
        if shape == "circle":
            pencil.ellipse(box, fill=tint)
        elif shape == "square":
            pencil.rectangle(box, fill=tint)
        else:
            pencil.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=tint)
    return image
