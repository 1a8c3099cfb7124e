"""Write the tables of README.md and of the pages in docs from benchmarks/results.

python benchmarks/table.py           writes
python benchmarks/table.py --check   only says whether they are in step; exit code 1 if not
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from measured import Facts, machine_line, markdown
from methods.tables import claim_table, curve_table, growth_table, method_table, speed_table
from picture_tables import adaptation_table, int8_table, quality_table, training_step_table
from render_tables import (
    benchmark_table,
    encoder_table,
    laptop_table,
    memory_table,
    newest,
    stage_table,
    thread_table,
    variant_table,
    weight_input_table,
)

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    "README.md": ("benchmark", "live figure"),
    "docs/performance.md": ("stage", "laptop", "int8", "thread", "variant", "encoder", "weight input", "memory"),
    "docs/gallery.md": ("adaptation", "quality", "earlier quality"),
    "docs/temporal.md": ("flicker", "flicker by clip", "smoothing variant", "smoothing cost", "kernel"),
    "docs/live.md": ("live",),
    "docs/masks.md": ("mask",),
    "docs/serve.md": ("serve", "attack"),
    "docs/tensorrt.md": ("engine", "gpu"),
    "docs/training.md": ("recipe", "training step"),
    "docs/web.md": ("web",),
    "docs/comparison.md": ("claim", "method", "curve", "speed", "growth"),
}
"""Page: the tables in it."""


def flicker_table(facts: Facts) -> list[str]:
    """Every part of the smoothing alone and together, and the peer's, each against itself unsmoothed."""
    temporal = facts.get("temporal", {})
    if "flicker" not in temporal:
        return []
    rows, lines = [], []
    for part, prefix in (("flicker", "`--smooth"), ("peer", "peer's `--smooth")):
        found = temporal.get(part)
        if found is None:
            continue
        for way, means in found["summary"].items():
            if " " in way:  # a way that was tried; `docs/temporal.md` has what came of it
                continue
            name = "without" if way == "none" else f"{prefix} {way}`"
            cells = [f"peer, {name}" if part == "peer" and way == "none" else name]
            cells += [f"{means[key]:.2f}" for key in ("warping_error_ratio", "sharpness", "similarity")]
            cells += [f"{means[key]:.2f}" for key in ("noise_gain_ratio", "half_still_ratio")]
            cells += [f"{means[key]:.1f}" for key in ("ghost", "cut")]
            rows.append(cells)
        unsmoothed = 1e4 * found["summary"]["none"]["warping_error"]
        lines.append(f"{found['backend'].split(',')[0]}: {unsmoothed:.0f}")
    ours = temporal["flicker"]
    clips = len({result["clip"] for result in ours["clips"]})
    styles = len({result["style"] for result in ours["clips"]})
    heads = ["", "E_warp", "sharpness", "SSIM", "noise", "half-still", "ghost", "cut"]
    return [
        *markdown(heads, rows),
        "",
        f"Means over {clips} clips of {ours['frames']} frames at {ours['rows']} rows and {styles} styles of each tool. "
        f"E_warp, noise and half-still are parts of what they are without smoothing; ghost and cut are levels of 255. "
        f"E_warp in 1e-4, unsmoothed ({'; '.join(lines)}), of the clips themselves {1e4 * ours['source_error']:.0f}.",
    ]


def flicker_clip_table(facts: Facts) -> list[str]:
    """The usual smoothing, clip by clip."""
    temporal = facts.get("temporal", {})
    if "flicker" not in temporal:
        return []

    def mean(part: str, clip: str, way: str, key: str) -> float:
        found = [r[key] for r in temporal[part]["clips"] if (r["clip"], r["smooth"]) == (clip, way)]
        return sum(found) / len(found)

    def ratio(part: str, clip: str, strength: str) -> float:
        plain, calm = (
            {r["style"]: r["warping_error"] for r in temporal[part]["clips"] if (r["clip"], r["smooth"]) == (clip, way)}
            for way in ("none", strength)
        )
        return sum(calm[style] / plain[style] for style in plain) / len(plain)

    ways = [(part, way) for part, way in (("flicker", "0.7"), ("flicker", "1"), ("peer", "0.7")) if part in temporal]
    rows = []
    for clip in dict.fromkeys(r["clip"] for r in temporal["flicker"]["clips"]):
        cells = [clip, *(f"{1e4 * mean('flicker', clip, way, 'warping_error'):.0f}" for way in ("source", "none"))]
        for part, way in ways:
            cells.append(f"{ratio(part, clip, way):.2f} ({mean(part, clip, way, 'sharpness'):.2f})")
        rows.append(cells)
    heads = ["clip", "E_warp of the clip", "painted"]
    heads += [f"{'' if part == 'flicker' else 'peer, '}`--smooth {way}`" for part, way in ways]
    return [
        *markdown(heads, rows),
        "",
        "E_warp in 1e-4 of the clip and of its painting; then what part of it is left, and of the sharpness.",
    ]


def smoothing_variant_table(facts: Facts) -> list[str]:
    """What each of its steps does for the usual smoothing."""
    found = facts.get("temporal", {}).get("variants")
    if found is None:
        return []
    rows = []
    for name, means in found["summary"].items():
        if name != "none":
            cells = [name, *(f"{means[key]:.2f}" for key in ("warping_error_ratio", "sharpness", "noise_gain_ratio"))]
            rows.append([*cells, f"{means['half_still_ratio']:.2f}", f"{means['ghost']:.1f}"])
    return markdown(["`--smooth` 0.7", "E_warp", "sharpness", "noise", "half-still", "ghost"], rows)


def smoothing_cost_table(facts: Facts) -> list[str]:
    """Milliseconds a frame, and what is lost of a render's speed."""
    cost = facts.get("temporal", {}).get("cost")
    if cost is None:
        return []
    keys = ("flow and weights", "warp, blend and gain", "all", "kernel alone", "NumPy and OpenCV instead of the kernel")
    rows = [[size, *(f"{steps[key]:.1f}" for key in keys)] for size, steps in cost["steps"].items()]
    render = cost["render"]
    threads = next(iter(cost["steps"].values()))["threads"]
    return [
        *markdown(["frame", *keys], rows),
        "",
        f"Milliseconds a frame, medians, {threads} threads of {cost['cpu']}. A render at {render['size']} goes at "
        f"{render['fps']['off']:.1f} frames a second, with `--smooth` at {render['fps']['on']:.1f} "
        f"({render['cost_percent']['on']:.0f} % less).",
    ]


def kernel_table(facts: Facts) -> list[str]:
    """The pass of smoothing alone, by instruction set and threads."""
    found = facts.get("warp")
    if not found:
        return []
    size, twin = found["size"], found["milliseconds"]["twin"]["median"]
    rows = []
    for name, took in found["milliseconds"].items():
        times = "" if name == "twin" else f"{twin / took['median']:.0f}"
        name = "NumPy and OpenCV" if name == "twin" else name
        rows.append([name, f"{took['least']:.2f}", f"{took['median']:.2f}", times])
    return markdown([f"the pass over the pixels, {size}", "ms, least", "median", "times as fast"], rows)


def mask_table(facts: Facts) -> list[str]:
    """What a mask costs, and how steady the mask of a person is."""
    case = facts.get("masks", {}).get("masks", {}).get("640x360")
    if case is None:
        return []
    renders, errors = case["renders"], case["ewarp"]
    whole = renders["no mask"]
    rows = [
        [
            name if name == "no mask" else f"`--mask {name.replace('file', 'FILE')}`",
            f"{run['fps']:.1f}",
            f"{run['fps'] / whole['fps']:.2f}",
            f"{run['cpu_ms']:.1f}",
        ]
        for name, run in renders.items()
    ]
    return [
        *markdown(["640x360", "fps", "of no mask", "processor time, ms a frame"], rows),
        "",
        f"{machine_line(facts['masks'], 'masks')}. The mask of a person takes {case['mask']['cpu_ms']:.1f} ms of "
        f"processor time a frame, all in all. Its E_warp is {1e4 * errors['steady']:.1f}e-4, and "
        f"{1e4 * errors['alone']:.1f}e-4 where each frame's is found by itself.",
    ]


def live_table(facts: Facts) -> list[str]:
    """What is seen of the live picture, and when."""
    live = facts.get("live", {})
    runs = live.get("live", {})
    if "plain" not in runs:
        return []
    words = {"plain": "`vidstyle webcam`", "record": "`--record`", "long": f"{len(minutes(runs))} minutes"}
    rows = []
    for part, name in words.items():
        if part in runs:
            run = runs[part]
            seen, error = run["latency_ms"], run["seen_after_claim_ms"]
            cells = [name, f"{run['shown_fps']:.1f} of {run['source_fps']:.1f}", str(run["not_shown"])]
            cells += [f"{seen['median']:.0f}", f"{seen['p99']:.0f}", f"{seen['high']:.0f}"]
            cells += [f"{error['median']:+.1f}", f"{run['cores_used']['program']:.2f}"]
            rows.append([*cells, f"{run['memory_mib']['high']:.0f}"])
    heads = ["640x360 at 30 fps", "fps seen", "dropped", "captured to seen, median ms", "p99", "most"]
    heads += ["seen after the overlay says, ms", "cores used", "MiB"]
    told = [f"{machine_line(live, 'plain')}. {runs['plain']['backend']}."]
    if "long" in runs:
        run = runs["long"]
        later = run["minutes"][len(run["minutes"]) // 2 :]
        told.append(
            f"From the first of {len(run['minutes'])} minutes to the last the latency changed by "
            f"{run['latency_growth_ms']:+.1f} ms and the memory by {run['memory_growth_mib']:+.1f} MiB, "
            f"{later[-1]['memory_mib'] - later[0]['memory_mib']:+.1f} of it in the second half."
        )
    if "switch" in runs:
        run = runs["switch"]
        told.append(
            f"From a key to the first frame of the new style on the screen: {run['first_ms']['median']:.0f} ms, at "
            f"most {run['first_ms']['high']:.0f} in {run['keys']} ({run['xdotool_ms']['median']:.0f} ms of it to send "
            f"the key); a tenth of the crossfade is done after {run['tenth_ms']['median']:.0f} ms, half after "
            f"{run['half_ms']['median']:.0f}."
        )
    if "stages" in runs:
        way = {name: step["median"] for name, step in runs["stages"]["way"].items()}
        told.append(
            f"The way of a frame, medians: {way['captured_to_started']:.1f} ms until the network has it, "
            f"{way['started_to_painted']:.1f} ms until it is painted, "
            f"{way['painted_to_claimed'] + way['claimed_to_seen']:.1f} ms until it is on the screen."
        )
    return [*markdown(heads, rows), "", " ".join(told)]


def live_figure_table(facts: Facts) -> list[str]:
    """Live pictures and smoothing, in a line each."""
    window, page = (facts.get(part, {}).get(part, {}) for part in ("live", "serve"))
    cost = facts.get("temporal", {}).get("cost")
    flicker = facts.get("temporal", {}).get("flicker")
    if "plain" not in window or "live" not in page or cost is None or flicker is None:
        return []
    rows = [
        [
            name,
            f"{run[fps]:.1f} of {run[source]:.1f} frames a second, {run['latency_ms']['median']:.0f} ms {since} "
            f"(p99 {run['latency_ms']['p99']:.0f})",
        ]
        for name, run, fps, source, since in (
            ("`vidstyle webcam`", window["plain"], "shown_fps", "source_fps", "from capture to screen"),
            ("`vidstyle serve`", page["live"], "fps", "camera_fps", "from the browser's camera to its screen"),
        )
    ]
    usual = flicker["summary"]["0.7"]
    rows.append(
        [
            "`--smooth`",
            f"{100 * (1 - usual['warping_error_ratio']):.0f} % less flicker, {100 * usual['sharpness']:.0f} % of the "
            f"sharpness, {cost['render']['cost_percent']['on']:.0f} % less speed",
        ]
    )
    return [*markdown(["640x360", ""], rows), "", f"{machine_line(facts['live'], 'plain')}."]


def minutes(runs: Facts) -> list[Any]:
    return list(runs.get("long", {}).get("minutes", []))


def serve_table(facts: Facts) -> list[str]:
    """How live the page of the server is, and what its visitors cost."""
    runs = facts.get("serve", {}).get("serve", {})
    if "live" not in runs:
        return []
    rows = []
    for words, run in (
        ("alone", runs["live"]),
        ("while a painting is learned", runs.get("adapting", {}).get("while_adapting")),
    ):
        if run is not None:
            seen = run["latency_ms"]
            cells = [
                words,
                f"{run['fps']:.1f} of {run['camera_fps']:.1f}",
                f"{seen['median']:.0f}",
                f"{seen['p99']:.0f}",
            ]
            rows.append([*cells, f"{run['server_cores']:.2f}", f"{run['server_mib']:.0f}"])
    heads = ["one visitor, 640x360 at 30 fps", "fps shown", "camera to shown, median ms", "p99"]
    heads += ["cores of the server", "MiB"]
    told = [f"{machine_line(facts['serve'], 'live')}, browser and server on the same machine."]
    if "adapting" in runs:
        run = runs["adapting"]
        told.append(
            f"While a painting is learned {100 * run['fps_kept']:.0f} % of the frames a second stay; a step takes "
            f"{run['seconds_a_step']:.1f} s then."
        )
    if "memory" in runs:
        run = runs["memory"]
        told.append(
            f"After {run['connects']} visits, one after the other, the server has {run['last_mib']:.0f} MiB in memory, "
            f"{run['first_mib']:.0f} before ({100 * run['growth']:+.1f} %)."
        )
    return [*markdown(heads, rows), "", " ".join(told)]


def attack_table(facts: Facts) -> list[str]:
    """What two visitors of the server, and whoever runs it, notice of attacks."""
    found = facts.get("attacks", {})
    runs = found.get("attacks", {})
    if not runs:
        return []
    rows = [
        [
            name,
            f"{run['health_s']:.2f}",
            f"{run['rise_mib']:+.0f}",
            f"{run['left_mib']:+.0f}",
            f"{run['fps']:.1f} of {run['fps_before']:.1f}",
        ]
        for name, run in runs.items()
    ]
    heads = ["attack", "longest wait for `/health`, s", "memory, MiB", "after it", "fps of two visitors"]
    first = next(iter(runs))
    told = [f"{machine_line(found, first)}, 400 descriptors, attackers and visitors on the same machine."]
    if found["machine"][first].get("note"):
        told.append(f"At that time {found['machine'][first]['note']}.")
    if "one visitor" in found.get("busy", {}):
        run = found["busy"]["one visitor"]
        told.append(
            f"One visitor's pictures are {run['alone']['age_ms']['p50']:.0f} ms old when they come back, and "
            f"{run['busy']['age_ms']['p50']:.0f} ms while something else keeps one core busy."
        )
    return [*markdown(heads, rows), "", " ".join(told)]


def engine_table(facts: Facts) -> list[str]:
    """Engines built without a GPU."""
    engines = facts.get("engines", {})
    runs = engines.get("engines", {})
    if not runs:
        return []
    rows = []
    for case in runs.values():
        size = "64x64 to 1920x1080" if case["dynamic"] else f"{case['width']}x{case['height']}"
        half, single = (case["convolutions"].get(kind, 0) for kind in ("half", "float"))
        rows.append(
            [
                f"`{case['network']}`, {size}, {case['pixels']}",
                f"{case['seconds']['median']:.1f} ({case['seconds']['low']:.1f}-{case['seconds']['high']:.1f})",
                f"{case['build_seconds']['median']:.1f}",
                f"{case['plan_bytes'] / 2**20:.1f} MiB",
                f"{case['layers'].get('half', 0)} of {sum(case['layers'].values())}",
                f"{half} of {half + single}",
                f"{case['worst_db']:.1f} dB",
            ]
        )
    heads = ["engine", "seconds", "of them TensorRT", "size", "layers in half", "convolutions", "FP16 to FP32"]
    case = next(iter(runs.values()))
    return [
        *markdown(heads, rows),
        "",
        f"{machine_line(engines, 'engines')}, no GPU. {case['library']}, for compute capability "
        f"{', '.join(case['targets'])}. Seconds: the whole `vidstyle build-engine` with one style, its start and the "
        f"check of FP16 included, median of {case['rounds']} (least-most). FP16 to FP32: the least PSNR of "
        f"{case['pictures']} pictures. In float stay the statistics of the norms and the mean color on which a frame "
        "is centered.",
    ]


GPU_CASES = {
    "paper-512x512": "at most 0.5 ms",
    "paper-256x256": "at most 0.2 ms",
    "fast-1920x1080": "at most 1 ms (1000 fps)",
}
"""What is asked of a data-centre GPU."""


def gpu_table(facts: Facts) -> list[str]:
    """The networks on a GPU, in every way that works on it."""
    found = facts.get("gpu", {})
    cases = {name: case for name, case in found.items() if "ways" in case}
    if not cases:
        return []
    rows = []
    for name, case in cases.items():
        for way, run in case["ways"].items():
            if "network_ms" not in run:
                continue
            ceilings = [f"{100 * run[key]:.0f} %" for key in ("of_matmul_ceiling", "of_copy_ceiling")]
            times = f"{run['times_eager_fp32']:.1f}" if "times_eager_fp32" in run else ""
            quality = f"{run['psnr_db']:.1f} dB" if "psnr_db" in run else ""
            cells = [f"{name}, {way}", GPU_CASES.get(name, ""), f"{run['network_ms']['median']:.3f} ms"]
            rows.append([*cells, times, *ceilings, quality])
    machine, most = facts["machine"]["gpu"], found["ceilings"]
    return [
        *markdown(GPU_HEADS, rows),
        "",
        f"{machine['gpu']}. Measured ceilings: {most['fp16_matmul_tflops']:.0f} TFLOP/s of FP16 products, "
        f"{most['copy_gb_s']:.0f} GB/s of copies.",
    ]


GPU_HEADS = ["case", "asked", "network", "times eager FP32", "of the products", "of the copies", "to the CPU's FP32"]


def gpu_unmeasured() -> list[str]:
    """What stands there until there are results of a GPU."""
    return markdown(GPU_HEADS, [[name, asked, *["not measured"] * 5] for name, asked in GPU_CASES.items()])


def web_table(facts: Facts) -> list[str]:
    """The page that paints on the visitor's device."""
    found = facts.get("web", {}).get("web", {})
    if not {"site", "first_frame", "page", "passes", "estimate"} <= set(found):
        return []
    site, passes, estimate = found["site"], found["passes"], found["estimate"]
    page = found["page"]
    rows = [
        ["the site, with its gallery", f"{site['mb']:.2f} MB", "at most 3 MB"],
        [f"one of its {site['styles']} styles, fetched when it is chosen first", f"{site['style_kb']:.0f} kB", ""],
        [
            "from opening it to the first painting, by software",
            f"{found['first_frame']['seconds']:.1f} s",
            "at most 3 s",
        ],
        [f"the worst painting at 64x48 beside torch's (`{page['worst']}`)", f"{page['worst_db']:.1f} dB", "40 dB"],
        ["passes of a frame", f"{passes['passes']}", "at most 24"],
        ["arithmetic of the convolutions", f"{site['kflop_a_pixel']:.1f} kFLOP a pixel", "33 to 50"],
    ]
    shaders = found.get("shaders", {})
    for key, words in (("fp32_db", "FP32"), ("fp16_db", "FP16")):
        if key in shaders:
            size = "x".join(map(str, shaders["frame"]))
            rows.insert(
                -2,
                [
                    f"what cards get, {words}, at {size} on {shaders['adapter'].split()[0]}",
                    f"{shaders[key]:.1f} dB",
                    "40 dB",
                ],
            )
    times = [[f"`{name}`", f"{copies:.1f}"] for name, copies in passes["copies"].items()]
    low, high = sorted(estimate["ms"])
    width, height = passes["frame"]
    return [
        *markdown(["", "measured", "wanted"], rows),
        "",
        *markdown(["pass", "copies of the frame"], [*times, ["all", f"{passes['whole_copies']:.0f}"]]),
        "",
        f"{machine_line({'machine': {'web': passes['machine']}}, 'web')}, Chromium's software adapter, frames of "
        f"{width}x{height}, best of the rounds.",
        "",
        f"An estimate for integrated graphics, which no measurement backs: a frame of 640x360 is "
        f"{estimate['gflop_a_frame']:.1f} GFLOP; a card of 2 TFLOP/s that reaches {estimate['gflops'][0]:.0f} to "
        f"{estimate['gflops'][1]:.0f} GFLOP/s in these passes takes {low:.0f} to {high:.0f} ms.",
    ]


TABLES = {
    "web": web_table,
    "stage": stage_table,
    "thread": thread_table,
    "memory": memory_table,
    "weight input": weight_input_table,
    "adaptation": adaptation_table,
    "flicker": flicker_table,
    "flicker by clip": flicker_clip_table,
    "smoothing variant": smoothing_variant_table,
    "smoothing cost": smoothing_cost_table,
    "kernel": kernel_table,
    "live": live_table,
    "live figure": live_figure_table,
    "serve": serve_table,
    "training step": training_step_table,
    "attack": attack_table,
    "laptop": laptop_table,
    "engine": engine_table,
    "gpu": gpu_table,
    "mask": mask_table,
    "quality": lambda facts: quality_table(facts.get("quality", {})),
    "earlier quality": lambda facts: quality_table(facts.get("quality_before", {})),
    "int8": lambda facts: int8_table(facts.get("int8", {})),
    "recipe": lambda facts: quality_table(facts.get("recipes", {})),
    "claim": lambda facts: claim_table(facts.get("methods", {})),
    "method": lambda facts: method_table(facts.get("methods", {})),
    "curve": lambda facts: curve_table(facts.get("methods", {})),
    "speed": lambda facts: speed_table(facts.get("methods", {})),
    "growth": lambda facts: growth_table(facts.get("methods", {})),
}


ACROSS = {
    "benchmark": benchmark_table,
    "variant": newest("variants", variant_table),
    "encoder": newest("variants", encoder_table),
}
"""Tables that are made of all machines' results at once; the others are made of each machine's."""
UNMEASURED = {"gpu": gpu_unmeasured}
"""What a table says where no machine has results for it."""


def updated(page: str, names: tuple[str, ...], results: list[Facts]) -> str:
    """``page`` with what is between its markers made anew."""
    for name in names:
        found = [ACROSS[name](results)] if name in ACROSS else [TABLES[name](facts) for facts in results]
        tables = ["\n".join(table) for table in found if table]
        if not tables and name in UNMEASURED:
            tables = ["\n".join(UNMEASURED[name]())]
        body = "\n\n".join(tables)
        begin, end = f"<!-- {name} table: made by benchmarks/table.py -->", f"<!-- end of {name} table -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise SystemExit(f"the page must hold {begin} and {end} once")
        text = f"{begin}\n\n{body}\n\n{end}" if body else f"{begin}\n{end}"
        page = pattern.sub(lambda _, text=text: text, page)
    return page


def read(path: Path) -> Facts:
    """A machine's results: its file, if there is one, and those in a folder of its own."""
    folder = path.with_suffix("")
    adaptations = {file.stem: json.loads(file.read_text()) for file in sorted((folder / "adaptation").glob("*.json"))}
    own = {
        part: facts_in(folder / f"{part}.json")
        for part in (
            "live",
            "serve",
            "attacks",
            "engines",
            "warp",
            "masks",
            "quality",
            "quality_before",
            "int8",
            "recipes",
            "training_step",
            "weight_inputs",
            "laptop",
            "threads",
            "methods",
            "web",
        )
    }
    return {**facts_in(path), **facts_in(folder / "temporal.json"), **own, "adaptation": adaptations}


def facts_in(path: Path) -> Facts:
    """What has been measured into ``path``; nothing where there is no such file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    folders = (folder.with_suffix(".json") for folder in RESULTS.iterdir() if folder.is_dir())
    results = [read(path) for path in sorted({*RESULTS.glob("*.json"), *folders})]
    behind = []
    for name, tables in PAGES.items():
        path = ROOT / name
        text = path.read_text()
        new = updated(text, tables, results)
        if new != text:
            behind.append(name)
            if not check:
                path.write_text(new)
    if check and behind:
        sys.exit(f"not in step with benchmarks/results: {', '.join(behind)}; run python benchmarks/table.py")


if __name__ == "__main__":
    main()
