"""``vidstyle build-engine``: styles in, a TensorRT engine out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import Bar, echo, echo_json, echo_notes
from vidstyle.errors import BadOption, ImageError
from vidstyle.options import BuildOptions, EngineTarget, NetworkName

if TYPE_CHECKING:
    from vidstyle.engine.build import BuildReport
    from vidstyle.models.style import Style


def _build_field(name: str, help: str, *names: str, **settings: Any) -> click.Option:
    """An option whose default is left to the build profile."""
    return opt.field(BuildOptions, name, help, *names, **{"default": None, **settings})


def _wishes(size: tuple[int, int] | None, best: tuple[int, int] | None, **values: Any) -> dict[str, Any]:
    """The fields of `BuildOptions` that were given."""
    if size is not None and (values["smallest"], best, values["largest"]) != (None, None, None):
        raise click.UsageError("--size is for an engine of one size, --min, --opt and --max for one of many; choose")
    return opt.given({**values, "size": size or best, "targets": values["targets"] or None})


@click.command(name="build-engine")
@click.argument("styles", metavar="STYLE|NETWORK|PAINTING...", nargs=-1, required=True)
@opt.plain(
    opt.option("-o", "--output", type=opt.FILE, help="Engine to write.  [default: STYLE.engine here]"),
    opt.option("--profile", metavar="NAME|FILE", help="Take what is not given from a build profile, such as 1080p."),
)
@opt.group(
    "wishes",
    _wishes,
    opt.option("--size", type=opt.FULL_SIZE, help="The one size of its frames.  [default: 1280x720]"),
    opt.option("--min", "smallest", type=opt.FULL_SIZE, help="Take every size from this one ..."),
    opt.option("--opt", "best", type=opt.FULL_SIZE, help="... tuned for this one ...  [default: 1280x720, or --max]"),
    opt.option("--max", "largest", type=opt.FULL_SIZE, help="... up to this one."),
    _build_field(
        "pixels",
        "Layout of the frames: i420 from software decoders, nv12 from the GPU's, rgb for stills.  [default: i420]",
    ),
    _build_field("matrix", "YCbCr matrix.  [default: bt709 from 720 rows on]"),
    opt.option("--full-range/--limited-range", default=None, help="Range of luma.  [default: limited]"),
    _build_field("precision", "Arithmetic.  [default: fp16]"),
    opt.option(
        "--target",
        "targets",
        type=click.Choice(get_args(EngineTarget)),
        multiple=True,
        help="GPUs to build for; repeat it for several.  [default: current, or portable where there is no GPU]",
    ),
    _build_field("library", "Whose engine.  [default: auto]"),
    _build_field("workspace_mib", "Most GPU memory for scratch.", "--workspace", metavar="MIB"),
    _build_field("optimization_level", "0 builds fastest, 5 runs fastest."),
    _build_field("timing_cache", "Keep TensorRT's timings from build to build.", metavar="FILE"),
)
@opt.plain(
    opt.option("--gpu", type=click.IntRange(0, 1023), metavar="N", help="Build on NVIDIA GPU number N, from 0."),
    opt.network_option("Network to adapt PAINTING on.  [default: fast]", default=None),
    opt.flag("--vector", "Adapt only the style vector to PAINTING, not every weight."),
    opt.flag("--full", hidden=True),  # what is done without --vector; once it was not
    opt.option("--steps", type=click.IntRange(1), help="Gradient steps for PAINTING.  [default: 150]"),
    opt.overwrite_option("Replace what exists."),
    opt.json_option(),
)
def build_engine(
    styles: tuple[str, ...],
    output: Path | None,
    profile: str | None,
    wishes: dict[str, Any],
    gpu: int | None,
    network: NetworkName | None,
    vector: bool,
    full: bool,
    steps: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compile styles into a TensorRT engine, to be played with --style.

    STYLE is a shipped style, a style file or another engine; several styles of one network ride in one
    engine. NETWORK, fast or paper, stands for all its shipped styles. A PAINTING, an image file, is
    adapted first (needs PyTorch) and kept as a style beside the engine.
    """
    options = _options(profile, wishes)
    from vidstyle.imaging.image_io import FORMATS

    paintings = [word for word in styles if Path(word).suffix.lower() in FORMATS]
    if not paintings and (vector or full or network or steps):
        raise click.UsageError("--network, --vector and --steps are for a PAINTING to adapt, and none is given")
    output = output or Path(f"{Path(styles[0]).stem}.engine")
    from vidstyle.engine.build import build_engine as build
    from vidstyle.engine.build import check_output

    check_output(output, overwrite)  # before an adaptation of minutes
    kept = {word: _kept(Path(word), output, overwrite) for word in paintings}
    chosen = {word: _named(word) for word in styles if word not in kept}  # a wrong name costs nothing either
    for word, file in kept.items():
        chosen[word] = [_adapted(Path(word), file, network or "fast", vector, steps, overwrite)]
    together = [style for word in styles for style in chosen[word]]
    with Bar() as bar:
        report = build(
            together,
            output,
            options,
            gpu=gpu,
            overwrite=overwrite,
            on_progress=lambda at: bar.update(round(100 * at.fraction), 100, at.phase),
        )
    echo_notes(report.notes)
    if as_json:
        engine = report.engine
        facts = {"engine": str(engine.path), **dataclasses.asdict(engine.card)}
        echo_json({**facts, "seconds": round(report.seconds, 3), "notes": report.notes})
        return
    for line in _lines(report):
        echo(line)


def _options(profile: str | None, wishes: dict[str, Any]) -> BuildOptions:
    from vidstyle.engine.build_profile import SIZE_FIELDS, options_from, profile_fields

    fields = profile_fields(profile) if profile else {}
    if any(field in wishes for field in SIZE_FIELDS):
        fields = {field: value for field, value in fields.items() if field not in SIZE_FIELDS}
    return options_from(fields | wishes)


def _named(word: str) -> list[Style]:
    """The styles that one word of the command line stands for."""
    from vidstyle.gallery import load_style, style_names
    from vidstyle.models.engine_file import SUFFIX, EngineFile
    from vidstyle.models.style import styles_of_engine

    if word in get_args(NetworkName):
        return [load_style(name) for name in style_names(word)]
    if word.endswith(SUFFIX):
        return styles_of_engine(EngineFile.open(Path(word)))
    return [load_style(word)]


def _kept(painting: Path, output: Path, overwrite: bool) -> Path:
    """Where the style of ``painting`` goes."""
    from vidstyle.files import check_output, taken

    if not painting.is_file():
        raise ImageError(f"there is no file {painting}")
    path = output.with_name(f"{painting.stem}.safetensors")
    if path.exists() and not overwrite:
        raise BadOption(f"{taken(path)}, or give it instead of {painting} to build an engine of it")
    check_output(path, overwrite=overwrite)
    return path


def _adapted(
    painting: Path, path: Path, network: NetworkName, vector: bool, steps: int | None, overwrite: bool
) -> Style:
    from vidstyle.gallery import load_style, shared_network

    with opt.needs_torch(f"adapting {painting.name}", ", or build an engine of a style"):
        from vidstyle.training.adapt import AdaptOptions, adapt

    options = AdaptOptions(mode="vector" if vector else "full", steps=steps or AdaptOptions.steps)
    echo(f"Adapting {painting} on {network} in {options.steps} steps", err=True)
    with Bar() as bar:
        style = adapt(
            painting,
            shared_network(network),
            name=path.stem,
            options=options,
            card={"painting": painting.stem},
            progress=lambda at: bar.update(at.step, at.steps, f"style loss {at.losses['style']:.3f}"),
        )
    style.save(path, overwrite=overwrite)
    echo(f"{path}: {style.kind} style for {style.network_name}", err=True)
    return load_style(path)  # what the file holds is what will be built again


def _lines(report: BuildReport) -> list[str]:
    card, plan = report.engine.card, report.plan
    names = list(card.styles)
    styles = f"style {names[0]}" if len(names) == 1 else f"{len(names)} styles"
    half, single = (plan.convolutions.get(kind, 0) for kind in ("half", "float"))
    lines = [
        f"{report.engine.path}: {card.network} with {styles}, {card.sizes()} {card.pixels} {card.precision}, "
        f"for {'GPUs of compute capability ' + ', '.join(card.targets) if card.gpu is None else card.gpu} "
        f"({card.library} {card.library_version})",
        f"  layers: {_counts(plan.layers)}; convolutions: {half} in half, {single} in float; "
        f"{sum(plan.norms.values())} instance norms with statistics in float",
    ]
    if plan.inspected:
        lines.append(f"  in the engine, by the inspector: {_counts(plan.inspected)}")
    if (at := report.fidelity) is not None:
        lines.append(
            f"  fp16 against fp32: {at.worst:.1f} dB at worst ({at.worst_style} on {at.worst_frame}) of {at.runs} "
            f"pictures; the largest number inside is {at.largest:.0f} of 65504"
        )
    lines.append(
        f"  {card.plan_bytes / (1 << 20):.1f} MiB, built in {plan.seconds:.1f} s ({report.seconds:.1f} s in all)"
    )
    return lines


def _counts(layers: dict[str, int]) -> str:
    return ", ".join(f"{count} in {kind}" for kind, count in sorted(layers.items(), reverse=True))
