"""Looks of eyes that do not know which is which: pairs of pictures, gray thumbnails, and what the answers come to.

Pictures are those that the judge leaves: ``FOLDER/PAINTING/PHOTO.png``. The eyes get the folder ``pairs`` or
``thumbnails`` alone; ``key.json`` beside it says what is what.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import cv2
import numpy as np
from candidates import write
from likeness import RGB

from vidstyle.tools.contact_sheet import picture_grid
from vidstyle.training.data import read_picture

QUESTIONS = {"manner": "which looks more like the painting?", "hang": "which would you rather hang on your wall?"}
TASK = """Each picture here shows a painting on the left, and beside it one photo painted in two ways: 1 in the middle,
2 on the right. Look at them one at a time. For each say two things, each with 1 or 2 (null if you cannot decide):

{questions}

Write the answers as JSON: {{"pairs": {{"001": {{"manner": 1, "hang": 2}}, ...}}}}
"""
MATCHING = """gray.jpg shows the same photos painted in several styles, numbered, without their colors; paintings.jpg
shows the paintings, lettered, in another order. Say for each number which painting it is like.

Write the answers as JSON: {"thumbnails": {"1": "C", ...}}
"""
GAP = 24
"""White pixels between two pictures."""


def write_pairs(out: Path, folders: Mapping[str, Path], paintings: Sequence[Path], *, count: int, seed: int) -> int:
    """``count`` pairs of every two of ``folders`` (or as many as there are), in ``out/pairs``; gives back how many."""
    random = np.random.default_rng(seed)
    pairs: list[tuple[str, str, Path, str]] = []
    for first, second in combinations(folders, 2):
        shared = common(folders[first], folders[second], paintings)
        mixed = {stem: shuffled(shared[stem], random) for stem in shuffled(list(shared), random)}
        places = in_turn(mixed)[:count]
        if not places:
            raise SystemExit(f"{folders[first]} and {folders[second]} have no picture of the same painting and photo")
        # Each is in the middle as often as on the right.
        turned = random.permutation(np.arange(len(places)) % 2 == 0)
        by_stem = {painting.stem: painting for painting in paintings}
        for (stem, photo), turn in zip(places, turned, strict=True):
            names = (second, first) if turn else (first, second)
            pairs.append((*names, by_stem[stem], photo))
    key = {}
    folder = new_folder(out / "pairs")
    for number, index in enumerate(random.permutation(len(pairs)), 1):
        one, two, painting, photo = pairs[index]
        shown = [read_picture(folders[name] / painting.stem / f"{photo}.png") for name in (one, two)]
        write(folder / f"{number:03}.jpg", beside([read_picture(painting), *shown]))
        key[f"{number:03}"] = {"painting": painting.stem, "photo": photo, "1": one, "2": two}
    questions = "\n".join(f"- {name}: {question}" for name, question in QUESTIONS.items())
    (folder / "task.txt").write_text(TASK.format(questions=questions))
    keep_key(out, "pairs", key)
    return len(pairs)


def common(first: Path, second: Path, paintings: Sequence[Path]) -> dict[str, list[str]]:
    """The photos that both folders have, by painting; paintings without one are left out."""
    stems = {painting.stem for painting in paintings}
    found = {
        folder.name: sorted(path.stem for path in folder.glob("*.png") if (second / folder.name / path.name).exists())
        for folder in sorted(first.iterdir())
        if folder.name in stems
    }
    return {stem: photos for stem, photos in found.items() if photos}


def shuffled(names: Sequence[str], random: np.random.Generator) -> list[str]:
    return [names[index] for index in random.permutation(len(names))]


def in_turn(photos: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """One photo of each painting, then another of each, until there are no more."""
    most = max(map(len, photos.values()), default=0)
    return [(stem, names[i]) for i in range(most) for stem, names in photos.items() if i < len(names)]


def beside(pictures: Sequence[RGB]) -> RGB:
    """Pictures in a row on white, as high as the last one."""
    rows = pictures[-1].shape[0]
    cells = []
    for picture in pictures:
        columns = max(1, round(picture.shape[1] * rows / picture.shape[0]))
        cells += [np.full((rows, GAP, 3), 255, np.uint8)] if cells else []
        cells.append(np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8))
    return np.hstack(cells)


def write_thumbnails(out: Path, folder: Path, paintings: Sequence[Path], *, photos: int, seed: int) -> int:
    """Gray thumbnails of every style of ``folder`` and the paintings, in ``out/thumbnails``; gives back how many."""
    random = np.random.default_rng(seed)
    shown = [painting for painting in paintings if (folder / painting.stem).is_dir()]
    most = len(ascii_uppercase)
    if not 2 <= len(shown) <= most:
        raise SystemExit(f"{folder} has pictures of {len(shown)} of the paintings; 2 to {most} can be matched")
    names = sorted(set.intersection(*({p.stem for p in (folder / s.stem).glob("*.png")} for s in shown)))[:photos]
    if not names:
        raise SystemExit(f"{folder} has no photo that is painted like all of the paintings")
    gray, lettered, key = [], [], {}
    letters = {index: ascii_uppercase[place] for place, index in enumerate(random.permutation(len(shown)))}
    for index in sorted(letters, key=letters.__getitem__):
        lettered.append(read_picture(shown[index]))
    for number, index in enumerate(random.permutation(len(shown)), 1):
        strip = beside([read_picture(folder / shown[index].stem / f"{name}.png") for name in names])
        gray.append(np.dstack([cv2.cvtColor(strip, cv2.COLOR_RGB2GRAY)] * 3))
        key[str(number)] = letters[index]
    place = new_folder(out / "thumbnails")
    numbered = [(number, ()) for number in key]
    write(place / "gray.jpg", picture_grid(gray, numbered, columns=3, cell_width=200 * len(names)))
    write(place / "paintings.jpg", picture_grid(lettered, [(a, ()) for a in sorted(letters.values())], columns=4))
    (place / "task.txt").write_text(MATCHING)
    keep_key(out, "thumbnails", key)
    return len(shown)


def new_folder(folder: Path) -> Path:
    if folder.exists():
        raise SystemExit(f"{folder} is there already, and answers to it may be under way; name another place")
    folder.mkdir(parents=True)
    return folder


def keep_key(out: Path, part: str, key: Mapping[str, Any]) -> None:
    path = out / "key.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, part: key}, indent=1) + "\n")


def wilson(wins: int, of: int) -> tuple[float, float]:
    """The 95 % interval (Wilson 1927) of a share of ``wins`` in ``of``; all of 0 to 1 without any."""
    if of == 0:
        return 0.0, 1.0
    z, share = 1.959964, wins / of
    middle = share + z * z / (2 * of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low, high = ((middle + side * reach) / (1 + z * z / of) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)


def score(key: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, Any]:
    """What the answers say: for every two candidates the wins of the first, and how many thumbnails were matched."""
    if unknown := sorted(answers.keys() - key.keys()):
        raise SystemExit(f"there are answers for {', '.join(unknown)}; the key has {', '.join(key)}")
    found: dict[str, Any] = {}
    wins: dict[tuple[str, str], dict[str, list[bool]]] = {}
    for number, answer in answers.get("pairs", {}).items():
        if number not in key["pairs"]:
            raise SystemExit(f"there is an answer for pair {number!r}; pairs are {' '.join(key['pairs'])}")
        shown = key["pairs"][number]
        first, second = sorted((shown["1"], shown["2"]))
        for question, choice in answer.items():
            if question not in QUESTIONS or choice not in (1, 2, None):
                raise SystemExit(f"pair {number}: {question!r} is {choice!r}; answer manner and hang with 1, 2 or null")
            if choice is not None:
                told = wins.setdefault((first, second), {name: [] for name in QUESTIONS})
                told[question].append(shown[str(choice)] == first)
    for (first, second), told in sorted(wins.items()):
        found.setdefault("pairs", {})[f"{first} : {second}"] = {
            question: {"wins": sum(won), "of": len(won), "interval": list(wilson(sum(won), len(won)))}
            for question, won in told.items()
        }
    if matched := answers.get("thumbnails"):
        right = sum(key["thumbnails"][number] == letter for number, letter in matched.items())
        found["thumbnails"] = {"right": right, "of": len(key["thumbnails"])}
    return found
