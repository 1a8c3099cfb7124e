"""``vidstyle build-engine``: styles in, a TensorRT engine out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from vidstyle.cli.params import FullSize
from vidstyle.cli.terminal import echo, echo_json
from vidstyle.errors import BadOption, ImageError, MissingDependency
from vidstyle.options import (
    BuildOptions,
    EngineLibrary,
    EnginePrecision,
    EngineTarget,
    Matrix,
    NetworkName,
    Pixels,
)

if TYPE_CHECKING:
    from vidstyle.engine.build import BuildReport
    from vidstyle.models.style import Style

PAINTINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@click.command(name="build-engine")
@click.argument("styles", metavar="STYLE|NETWORK|PAINTING...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Engine to write.  [default: STYLE.engine here]")
@click.option("--profile", metavar="NAME|FILE", help="Take what is not given from a build profile, such as 1080p.")
@click.option("--size", type=FullSize(), help="The one size of its frames.  [default: 1280x720]")
@click.option("--min", "smallest", type=FullSize(), help="Take every size from this one ...")
@click.option("--opt", "best", type=FullSize(), help="... tuned for this one ...  [default: 1280x720, or the last]")
@click.option("--max", "largest", type=FullSize(), help="... up to this one.")
@click.option(
    "--pixels",
    type=click.Choice(get_args(Pixels)),
    help="Layout of the frames: i420 from software decoders, nv12 from the GPU's, rgb for stills.  [default: i420]",
)
@click.option("--matrix", type=click.Choice(get_args(Matrix)), help="YCbCr matrix.  [default: bt709 from 720 rows on]")
@click.option("--full-range/--limited-range", default=None, help="Range of luma.  [default: limited]")
@click.option("--precision", type=click.Choice(get_args(EnginePrecision)), help="Arithmetic.  [default: fp16]")
@click.option(
    "--target",
    "targets",
    type=click.Choice(get_args(EngineTarget)),
    multiple=True,
    help="GPUs to build for; repeat it for several.  [default: current, or portable where there is no GPU]",
)
@click.option("--library", type=click.Choice(get_args(EngineLibrary)), help="Whose engine.  [default: auto]")
@click.option("--gpu", type=click.IntRange(0, 1023), metavar="N", help="Build on NVIDIA GPU number N, from 0.")
@click.option("--workspace", type=click.IntRange(1, 1 << 20), metavar="MIB", help="Most GPU memory for scratch.")
@click.option("--optimization-level", type=click.IntRange(0, 5), help="0 builds fastest, 5 runs fastest.")
@click.option("--timing-cache", metavar="FILE", help="Keep TensorRT's timings from build to build.")
@click.option(
    "--network", type=click.Choice(get_args(NetworkName)), help="Network to adapt PAINTING on.  [default: fast]"
)
@click.option("--vector", is_flag=True, help="Adapt only the style vector to PAINTING, not every weight.")
@click.option("--full", is_flag=True, hidden=True)  # what is done without --vector; once it was not
@click.option("--steps", type=click.IntRange(1), help="Gradient steps for PAINTING.  [default: 150]")
@click.option("--overwrite", "-y", is_flag=True, help="Replace what exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
def build_engine(
    styles: tuple[str, ...],
    output: Path | None,
    profile: str | None,
    size: tuple[int, int] | None,
    smallest: tuple[int, int] | None,
    best: tuple[int, int] | None,
    largest: tuple[int, int] | None,
    pixels: Pixels | None,
    matrix: Matrix | None,
    full_range: bool | None,
    precision: EnginePrecision | None,
    targets: tuple[EngineTarget, ...],
    library: EngineLibrary | None,
    gpu: int | None,
    workspace: int | None,
    optimization_level: int | None,
    timing_cache: str | None,
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
    if size is not None and (smallest, best, largest) != (None, None, None):
        raise click.UsageError("--size is for an engine of one size, --min, --opt and --max for one of many; choose")
    wishes = {
        "size": size or best,
        "smallest": smallest,
        "largest": largest,
        "pixels": pixels,
        "matrix": matrix,
        "full_range": full_range,
        "precision": precision,
        "targets": targets or None,
        "library": library,
        "workspace_mib": workspace,
        "optimization_level": optimization_level,
        "timing_cache": timing_cache,
    }
    options = _options(profile, {field: wish for field, wish in wishes.items() if wish is not None})
    paintings = [word for word in styles if _is_painting(word)]
    if not paintings and (vector or full or network or steps):
        raise click.UsageError("--network, --vector and --steps are for a PAINTING to adapt, and none is given")
    output = output or Path(f"{Path(styles[0]).stem}.engine")
    from vidstyle.engine.build import check_output

    check_output(output, overwrite)  # before an adaptation of minutes
    kept = {word: _kept(Path(word), output, overwrite) for word in paintings}
    chosen = {word: _named(word) for word in styles if word not in kept}  # a wrong name costs nothing either
    for word, file in kept.items():
        chosen[word] = [_adapted(Path(word), file, network or "fast", vector, steps, overwrite)]
    together = [style for word in styles for style in chosen[word]]
    report = _built(together, output, options, gpu, overwrite)
    for note in report.notes:
        echo(f"Note: {note}", err=True)
    if as_json:
        echo_json(_facts(report))
        return
    for line in _lines(report):
        echo(line)


def _options(profile: str | None, wishes: dict[str, Any]) -> BuildOptions:
    from vidstyle.engine.build_profile import SIZE_FIELDS, options_from, profile_fields

    fields = profile_fields(profile) if profile else {}
    if any(field in wishes for field in SIZE_FIELDS):
        fields = {field: value for field, value in fields.items() if field not in SIZE_FIELDS}
    return options_from(fields | wishes)


def _is_painting(word: str) -> bool:
    return word.lower().endswith(PAINTINGS)


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
    from vidstyle.cli.bar import Bar
    from vidstyle.gallery import load_style, shared_network

    try:
        from vidstyle.training.adapt import AdaptOptions, adapt
    except ImportError as error:
        raise MissingDependency(
            f"adapting {painting.name} needs PyTorch ({error}); pip install 'vidstyle[train]', or build an engine of a "
            "style"
        ) from error

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


def _built(styles: list[Style], output: Path, options: BuildOptions, gpu: int | None, overwrite: bool) -> BuildReport:
    from vidstyle.cli.bar import Bar
    from vidstyle.engine.build import build_engine

    with Bar() as bar:
        return build_engine(
            styles,
            output,
            options,
            gpu=gpu,
            overwrite=overwrite,
            on_progress=lambda at: bar.update(round(100 * at.fraction), 100, at.phase),
        )


def _facts(report: BuildReport) -> dict[str, Any]:
    return {
        "engine": str(report.engine.path),
        **dataclasses.asdict(report.engine.card),
        "seconds": round(report.seconds, 3),
        "notes": report.notes,
    }


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
