"""Tables of what was learned and how it looks: adaptations, the judge, steps of training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from measured import Facts, machine_line, markdown

WITHIN = (0.75, 1.33)
"""What part of the painting's contrast a band from 2 to 64 pixels may have."""
MAX_RELU3_3 = 0.13
QUALITY_HEADS = ["content", "relu1_2 2_2 3_3 4_3", "bands 1-2 ... 32-64 px, rest", "contrast", "palette", "grid 4, 2"]
QUALITY_HEADS += ["border", "instability", "E_warp"]


def adaptation_table(facts: Facts) -> list[str]:
    """The loss of adaptations to paintings that the shared network has not seen, by what they begin with."""
    lines = []
    for network in ("fast", "paper"):
        cases = {name: case[network] for name, case in facts.get("adaptation", {}).items() if network in case}
        runs = list(dict.fromkeys(run for case in cases.values() for run in case))
        if "full" not in runs:
            continue  # nothing to compare with
        ends = {name: {run: totals(found)[-1][1] for run, found in case.items()} for name, case in cases.items()}
        rows = [[name, *(f"{found[run]:.2f}" if run in found else "" for run in runs)] for name, found in ends.items()]
        both = {run: [(one["full"], one[run]) for one in ends.values() if {"full", run} <= one.keys()] for run in runs}
        ratios = [f"**{statistics.mean(a / b for a, b in both[run]):.2f}** ({len(both[run])})" for run in runs]
        rows.append(["`full` over it, mean (of)", *ratios])
        steps = {run: next(c[run]["conditions"]["steps"] for c in cases.values() if run in c) for run in runs}
        lines += markdown([f"`{network}`", *(f"{run.split('_')[0]}, {steps[run]} steps" for run in runs)], rows)
    return lines


def totals(run: Facts) -> list[tuple[int, float]]:
    """Steps and the loss that was descended, on the photos that nothing learned on."""
    weights = run["conditions"]["loss"]
    terms = run["columns"][1:]
    return [(point[0], sum(weights[t] * v for t, v in zip(terms, point[1:], strict=True))) for point in run["curve"]]


def longest_scratch(runs: Facts) -> str | None:
    """The name of the longest training from random weights."""
    names = [name for name in runs if name.startswith("scratch_")]
    return max(names, key=lambda name: int(runs[name]["conditions"]["steps"]), default=None)


def quality_table(facts: Facts) -> list[str]:
    """Candidates by the judge's measures, each the mean over its paintings."""
    candidates = facts.get("quality", {})
    if not candidates:
        return []
    rows = []
    for name, paintings in candidates.items():
        held = sum(holds(found) for found in paintings.values())
        rows.append([name, *quality_cells(list(paintings.values())), f"{held} of {len(paintings)}"])
    found = facts["machine"]["quality"]
    return [
        *markdown(["candidate", *QUALITY_HEADS, "hold"], rows),
        "",
        f"Means over the paintings, each of {len(found['photos'])} photos at {found['rows']} rows (fewer for the "
        "optimum). Terms: squared errors over the target's square, content at relu3_3, style of four Gram matrices. "
        "Bands and contrast: root mean squares of luma over the painting's, medians of the photos. Palette: sliced "
        "Wasserstein distance in Lab. Grid: energy over its neighbors', below 3 is none; border: levels of 255. "
        f"Instability, E_warp: 1e-4. A painting holds with relu3_3 at most {MAX_RELU3_3} and every band from 2 to 64 "
        f"px within {WITHIN[0]}-{WITHIN[1]}.",
    ]


def int8_table(facts: Facts) -> list[str]:
    """The gallery by the same measures, in floats and in 8-bit integers."""
    candidates = facts.get("quality", {})
    if not candidates:
        return []
    found = facts["machine"]["quality"]
    floats = "bf16" if found["cpu"]["features"].get("bf16") else "fp32"
    ways = {
        "shipped": "fp32, RGB, by torch",
        "shipped fp32": "fp32, 4:2:0",
        "shipped int8": f"int8 and {floats}, 4:2:0",
    }
    rows = [[words, *quality_cells(list(candidates[name].values()))[:-2]] for name, words in ways.items()]
    count = len(candidates["shipped int8"])
    return [
        *markdown(["the gallery in", *QUALITY_HEADS[:-2]], rows),
        "",
        f"Means over {count} styles, each of {len(found['photos'])} photos at {found['rows']} rows. 4:2:0 is how "
        "OpenVINO paints videos. [The gallery's page](gallery.md#what-the-judge-says) says what is measured.",
    ]


def quality_painting_table(facts: Facts) -> list[str]:
    """The same, painting by painting."""
    candidates = facts.get("quality", {})
    stems = dict.fromkeys(stem for paintings in candidates.values() for stem in paintings)
    rows = [
        [f"{stem}, {name}", *quality_cells([paintings[stem]]), "yes" if holds(paintings[stem]) else ""]
        for stem in stems
        for name, paintings in candidates.items()
        if stem in paintings
    ]
    return markdown(["painting, candidate", *QUALITY_HEADS, "holds"], rows) if rows else []


def quality_cells(found: list[Facts]) -> list[str]:
    def mean(get: Callable[[Facts], float | None], digits: int, scale: float = 1) -> str:
        values = [value for one in found if (value := get(one)) is not None]
        return f"{scale * sum(values) / len(values):.{digits}f}" if values else ""

    def several(key: str, count: int, digits: int) -> str:
        return " ".join(mean(lambda one, i=i: one[key][i], digits).removeprefix("0") for i in range(count))

    def e_warp(one: Facts) -> float | None:
        errors = list(one.get("warping_error", {}).values())
        return sum(errors) / len(errors) if errors else None

    grids = [mean(lambda one, period=period: one["grid"][period], 1) for period in ("4", "2")]
    return [
        mean(lambda one: one["content"], 2),
        several("style", 4, 3),
        several("bands", 7, 2),
        mean(lambda one: one["contrast"], 2),
        mean(lambda one: one["palette"], 1),
        ", ".join(grids),
        mean(lambda one: one.get("border"), 1),
        mean(lambda one: one.get("instability"), 1, 1e4),
        mean(e_warp, 0, 1e4),
    ]


def holds(found: Facts) -> bool:
    """Whether a painting's candidate is as near to it as a shipped style must be."""
    return found["style"][2] <= MAX_RELU3_3 and all(WITHIN[0] <= band <= WITHIN[1] for band in found["bands"][1:6])


def quality_score_table(facts: Facts) -> list[str]:
    """What eyes say that do not know which is which."""
    looks = facts.get("looks", {})
    rows = []
    for pair, told in looks.get("pairs", {}).items():
        cells = [pair]
        for question in ("manner", "hang"):
            won, low, high = told[question]["wins"], *told[question]["interval"]
            of = told[question]["of"]
            cells.append(f"{won} : {of - won} ({100 * low:.0f}-{100 * high:.0f} %)" if of else "")
        rows.append(cells)
    table = markdown(["pair", "more like the painting", "would rather hang"], rows) if rows else []
    matched = looks.get("thumbnails")
    told = (
        [f"{matched['right']} of {matched['of']} gray thumbnails were matched with their paintings."] if matched else []
    )
    return [*table, *([""] if table and told else []), *told]


def training_step_table(facts: Facts) -> list[str]:
    """A step by torch's own differentiation and by vidstyle's, and where the time goes."""
    lines: list[str] = []
    every = facts.get("training_step", {})
    for arithmetic in (name for name in every if name != "machine"):
        rows, profiles = [], []
        runs = every[arithmetic]
        for name, run in runs.items():
            plain, own = (f"{statistics.median(run['seconds'][way]):.2f} s" for way in ("plain", "own"))
            rows.append([f"`{name.replace(',', '`,', 1)}", plain, own, f"**{run['ratio']:.2f}**"])
            if name.endswith(", 1 threads"):
                network = name.split(",")[0]
                profiles += [
                    f"`{network}`, {way}: {_milliseconds(found)}." for way, found in run["milliseconds"].items()
                ]
        lines += [
            *markdown(["step", "torch's differentiation", "vidstyle's", "ratio"], rows),
            "",
            f"{machine_line(every, arithmetic)}, {arithmetic}. Batch {run['batch']} of {run['size']} pixels; medians "
            "of steps in turn, the ratio the median of pairs. Milliseconds by operation in one step on one thread:",
            "",
            *(f"- {line}" for line in profiles),
            "",
        ]
    return lines[:-1]


def _milliseconds(found: Mapping[str, float]) -> str:
    return ", ".join(f"`{name}` {ms:.0f}" for name, ms in found.items())
