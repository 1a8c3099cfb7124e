"""Tables of docs/comparison.md: the methods, what people would pick, and how the cost grows."""

from __future__ import annotations

import math
from collections.abc import Callable

from measured import Facts, machine_line, markdown

BANDS_SHOWN = range(1, 6)
"""2 to 64 pixels, of `likeness.BANDS`."""
ORDER = (
    "gatys",
    "johnson",
    "wct",
    "adain",
    "meta_networks",
    "avatar_net",
    "style_swap",
    "metastyle_paper",
    "metastyle_paper_vector",
    "metastyle",
    "metastyle_vector",
)
"""Of the rows: the paper's."""
STARTS = {"content": "as the photo", "noise": "as noise", "metastyle": "as MetaStyle painted them"}
EVERY_STYLE = ("wct", "adain", "meta_networks", "avatar_net", "style_swap")
"""Rows that paint like any painting at once: nothing is trained for one."""
OURS = ("metastyle_paper", "metastyle_paper_vector", "metastyle", "metastyle_vector")
TIMES_AS_FAST = 20
MOST_LOAD = 2.5  # on two cores a benchmark that has just ended leaves up to 2 in the mean of a minute
RATE = 25
"""Frames a second of the clips."""
STYLE = "style (the mean of its four terms)"
MEASURES: dict[str, Callable[[Facts], float | None]] = {
    STYLE: lambda row: sum(row["style"]) / 4,
    "content": lambda row: row["content"],
    "seconds to a new style": lambda row: row["style_seconds"],
    "seconds at 512x512": lambda row: row["seconds"]["512"],
    "E_warp (1e-4)": lambda row: 1e4 * sum(row["warping_error"].values()) or None,
    "megabytes on disk": lambda row: row["stored"] / 1e6,
}
"""Of all of these, less is better."""


def method_table(facts: Facts) -> list[str]:
    """The table of the paper: size and speed, then what the pictures are like."""
    rows = in_order(facts)
    if not rows:
        return []
    found = facts["machine"]["methods"]
    sizes = [
        [row["name"], row["paper"], *parameters(row), row["styles"], f"{row['stored'] / 1e6:.1f}"]
        for row in rows.values()
    ]
    speeds = [
        [
            row["name"],
            short(row["style_seconds"]),
            *(short(row["seconds"][side]) for side in ("256", "512")),
            f"{row['seconds']['512'] / rows['metastyle']['seconds']['512']:.0f}" if "metastyle" in rows else "",
            row["note"],
        ]
        for row in rows.values()
    ]
    looks = [
        [
            row["name"],
            f"{row['content']:.2f}",
            " ".join(f"{value:.3f}".removeprefix("0") for value in row["style"]),
            " ".join(f"{row['bands'][band]:.2f}".removeprefix("0") for band in BANDS_SHOWN),
            f"{row['palette']:.1f}",
            " ".join(f"{1e4 * value:.0f}" for value in row["warping_error"].values()),
        ]
        for row in rows.values()
    ]
    heads = ["method", "paper", "M parameters here", "counted on the paper's shapes", "in the paper's table", "styles"]
    return [
        *markdown([*heads, "MB on disk"], sizes),
        "",
        *markdown(["method", "s to a new style", "s at 256x256", "s at 512x512", "over `fast`", "here"], speeds),
        "",
        *markdown(["method", "content", "style: relu1_2 2_2 3_3 4_3", "bands 2-64 px", "palette", "E_warp"], looks),
        "",
        f"{machine_line(facts, 'methods')}, {versions(found)}. {found['painting'].replace('_', ' ')}, "
        f"{len(found['photos'])} photos ({', '.join(found['photos'])}) of {found['rows']} rows; "
        f"{found['arithmetic']} on {found['threads'] or 'all'} threads; Gatys with {found['iterations']} iterations. "
        "Terms and bands as in "
        f"benchmarks/README.md; E_warp in 1e-4, of a made pan of {found['frames']} frames of 256 rows.{busy(found)}",
    ]


def in_order(facts: Facts) -> Facts:
    """The rows that were measured."""
    rows = facts.get("methods", {})
    return {name: rows[name] for name in ORDER if name in rows}


def parameters(row: Facts) -> list[str]:
    """Millions: of what ran, of the paper's shapes, and of its table."""
    full = row["full_size"]
    kinds = {"vgg19": "VGG-19", "vgg16": "VGG-16"}
    counted = ", ".join(f"{count / 1e6:.2f}" + (f" ({kinds[k]})" if k in kinds else "") for k, count in full.items())
    if len(set(full.values())) == 1:
        counted = f"{next(iter(full.values())) / 1e6:.2f}"
    here, table = row["parameters"], row["table_parameters"]
    return [f"{here / 1e6:.2f}" if here else "-", counted or "-", f"{table:.2f}" if table else "-"]


def short(seconds: float | None) -> str:
    """Three significant digits."""
    return "" if seconds is None else f"{seconds:.0f}" if seconds >= 100 or seconds < 1e-3 else f"{seconds:.3g}"


def claim_table(facts: Facts) -> list[str]:
    """Where another method is better, first; then what was to be reached."""
    rows = in_order(facts)
    ours = {name: rows[name] for name in OURS if name in rows}
    if "metastyle" not in ours:
        return []
    others = {name: row for name, row in rows.items() if name not in ours}
    lines = []
    work = busy(facts["machine"]["methods"])
    for what, get in MEASURES.items():
        if work and what.startswith("seconds"):
            continue
        best = min((value for row in ours.values() if (value := get(row)) is not None), default=-math.inf)
        found = [(value, row["name"]) for row in others.values() if (value := get(row)) is not None]
        if better := sorted(pair for pair in found if pair[0] < best):
            told = ", ".join(f"{name} {short(value)}" for value, name in better)
            lines.append(f"- Lower {what} than the best of ours ({short(best)}): {told}.")
    video = {row["name"]: (MEASURES[STYLE](row), row["content"]) for row in rows.values() if row["real_time"]}
    told = ", ".join(
        f"{name} {style:.2f} at {content:.2f}" for name, (style, content) in sorted(video.items(), key=by_style)
    )
    lines.append(f"- Of the rows that are quick enough for video, style at content, the lowest style first: {told}.")
    if curves := facts.get("curves", {}).get("steps"):
        end, reached = (
            curves["MetaStyle"][-1],
            [point for point in curves["Johnson"] if point[1] <= curves["MetaStyle"][-1][1]],
        )
        told = f"after {reached[0][0]} steps" if reached else f"not in {curves['Johnson'][-1][0]} steps"
        lines.append(
            f"- `paper` from random weights (Johnson) reaches what its adaptation comes to in {end[0]} steps, a loss "
            f"of {end[1]:.2f}, {told}; its end is {curves['Johnson'][-1][1]:.2f} ({curves['Johnson'][-1][0]} steps)."
        )
    if work:
        return [*lines, f"-{work}"]
    fast = rows["metastyle"]["seconds"]["512"]
    times = {row["name"]: row["seconds"]["512"] / fast for name, row in others.items() if name in EVERY_STYLE}
    told = ", ".join(f"{name} {ratio:.0f}" for name, ratio in sorted(times.items(), key=lambda pair: pair[1]))
    short_of = [name for name, ratio in times.items() if ratio < TIMES_AS_FAST]
    lines.append(
        f"- `fast` was to be {TIMES_AS_FAST} times as fast as every any-style method at 512x512; it is so many times "
        f"as fast: {told}" + (f". Short of it: {', '.join(short_of)}." if short_of else ".")
    )
    return lines


def versions(found: Facts) -> str:
    """Of what computes."""
    packages = found.get("packages", {})
    return ", ".join(f"{name} {packages[name]}" for name in ("torch", "openvino") if name in packages)


def busy(found: Facts) -> str:
    """What is to be said of seconds that were taken beside other work."""
    work = found.get("load_before", 0)
    return f" Measured beside other work (a load of {work:.0f}): the seconds say little." if work > MOST_LOAD else ""


def curve_table(facts: Facts) -> list[str]:
    """What the start of the pixels is worth."""
    found = facts.get("curves", {}).get("starts")
    if not found:
        return []
    curves = {name: found[name]["curve"] for name in ("content", "noise", "metastyle")}
    rows = []
    for name, curve in curves.items():
        last = curves["content"][-1]
        first = next((number for number, loss in enumerate(curve) if loss <= last), None)
        rows.append([STARTS[name], f"{curve[0]:.1f}", f"{curve[-1]:.2f}", "" if first is None else str(first)])
    heads = ["the pixels start", "loss at first", f"after {found['iterations']} iterations"]
    return markdown([*heads, "iterations to where the photo ends"], rows)


def by_style(row: tuple[str, tuple[float | None, float]]) -> float:
    return row[1][0] or 0.0


def speed_table(facts: Facts) -> list[str]:
    """What people would pick, by size."""
    found = facts.get("speed", {})
    if not found:
        return []
    sizes = list(next(iter(found.values()))["seconds"])
    rows = [[name, *(f"{1e3 * way['seconds'][size]:.1f}" for size in sizes)] for name, way in found.items()]
    peak = facts["machine"]["peak"]["bfloat16"]
    shares = [
        f"{name.removeprefix('ours: ')} {100 * rate(way, size) / peak:.0f} %"
        for name, way in found.items()
        if "flops_per_pixel" in way and "ONNX" not in name
        for size in ("1280x720",)
        if size in way["seconds"]
    ]
    return [
        *markdown(["milliseconds a picture", *sizes], rows),
        "",
        f"{machine_line(facts, 'speed')}, torch {facts['machine']['speed']['torch']}. All at the full size of the "
        f"picture, from 8-bit RGB to 8-bit RGB; medians. A product of bf16 matrices of 2048x2048 reaches {peak:.0f} "
        f"GFLOP/s here; of that, with everything around the convolutions, at 1280x720: {', '.join(shares)}.",
    ]


def rate(way: Facts, size: str) -> float:
    """Billions of operations a second."""
    width, height = map(int, size.split("x"))
    return float(way["flops_per_pixel"]) * width * height / way["seconds"][size] / 1e9


def growth_table(facts: Facts) -> list[str]:
    """How the cost of `fast` grows: with pixels, cores, and the length of a video."""
    found, speed = facts.get("growth", {}), facts.get("speed", {})
    ours = next((way for name, way in speed.items() if name.startswith("ours")), None)
    if not found or ours is None:
        return []
    pixels = ", ".join(
        f"{size} {1e9 * taken / (width * height):.1f}"
        for size, taken in ours["seconds"].items()
        for width, height in [map(int, size.split("x"))]
    )
    cores, lengths = found["cores"], found["length"]
    short_clip, long_clip = sorted(lengths, key=float)
    steady = (lengths[long_clip] - lengths[short_clip]) / (float(long_clip) - float(short_clip)) / RATE
    start = lengths[short_clip] - steady * float(short_clip) * RATE
    return [
        f"- Pixels: nanoseconds a pixel {pixels}.",
        f"- Cores, at 1280x720: {1e3 * cores['1']:.1f} ms on one, {1e3 * cores['2']:.1f} ms on two, "
        f"{cores['1'] / cores['2']:.2f} times as fast (as many under way as threads).",
        f"- Length, a render at 640x360: {lengths[short_clip]:.1f} s for a clip of {short_clip} s, "
        f"{lengths[long_clip]:.1f} s for {long_clip} s: {1e3 * steady:.1f} ms a frame and {start:.1f} s to start.",
    ]
