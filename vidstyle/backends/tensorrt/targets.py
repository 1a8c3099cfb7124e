"""GPUs to build for: names that people use, and the compute capabilities behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidstyle.backends.tensorrt.library import Library, as_pair
from vidstyle.errors import BadOption
from vidstyle.options import EngineTarget

PORTABLE = ("8.0", "8.6", "8.9", "12.0")
"""What TensorRT-RTX builds for unless it is told otherwise; such an engine runs on later GPUs too
(https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html)."""
AMPERE_AND_LATER = "8.0+"
"""Target of a portable TensorRT engine (`HardwareCompatibilityLevel.AMPERE_PLUS`)."""
TENSORRT_NEEDS_A_GPU = (
    "tensorrt builds on the GPU that it builds for, and none answers here; `--library tensorrt-rtx` builds without one"
)
_NAMED: dict[EngineTarget, tuple[str, ...]] = {
    "portable": PORTABLE,
    "turing": ("7.5",),
    "ampere": ("8.0", "8.6"),
    "ada": ("8.9",),
    "blackwell": ("12.0", "12.1"),
}


@dataclass(frozen=True)
class GpuFacts:
    """What an engine has to know of a GPU."""

    name: str
    """As CUDA calls it."""
    compute_capability: str
    """Such as ``8.9``."""


def chosen_targets(targets: Sequence[EngineTarget], gpu: GpuFacts | None) -> tuple[EngineTarget, ...]:
    """``targets``, or where there are none the current GPU, or ``portable`` where there is no GPU."""
    return tuple(dict.fromkeys(targets)) or ("current" if gpu else "portable",)


def compute_capabilities(targets: Sequence[EngineTarget], library: Library, gpu: GpuFacts | None) -> tuple[str, ...]:
    """What to build for, ascending; `BadOption` says why ``library`` cannot, and what can."""
    chosen = chosen_targets(targets, gpu)
    if gpu is None and "current" in chosen:
        raise BadOption("target 'current' needs a GPU, and none answers here; name the GPU's family, or take portable")
    if not library.is_rtx:
        return _for_tensorrt(chosen, gpu)
    found: set[str] = set()
    for target in chosen:
        # An older TensorRT-RTX does not know the last of a family.
        known = [gpu.compute_capability] if target == "current" and gpu else list(_NAMED.get(target, ()))
        usable = [capability for capability in known if library.supports(capability)]
        if not usable:
            raise BadOption(
                f"{library.name} {library.version} cannot build for {target} ({', '.join(known)}), only for "
                f"{', '.join(library.compute_capabilities)}; data-centre GPUs such as Hopper need "
                "`--library tensorrt` on that GPU"
            )
        found.update(usable)
    return tuple(sorted(found, key=as_pair))


def _for_tensorrt(chosen: tuple[EngineTarget, ...], gpu: GpuFacts | None) -> tuple[str, ...]:
    if gpu is None:
        raise BadOption(TENSORRT_NEEDS_A_GPU)
    others = [target for target in chosen if target not in ("current", "portable")]
    if others or len(chosen) > 1:
        raise BadOption(
            f"target is {', '.join(chosen)}; tensorrt builds for the current GPU, or portable (Ampere and later): "
            "take one of these, build on the GPU in question, or take `--library tensorrt-rtx`"
        )
    return (AMPERE_AND_LATER,) if chosen == ("portable",) else (gpu.compute_capability,)


def covers(built_for: Sequence[str], compute_capability: str) -> bool:
    """Whether an engine built for ``built_for`` runs on a GPU of ``compute_capability``."""
    if compute_capability in built_for:
        return True
    here = as_pair(compute_capability)
    if AMPERE_AND_LATER in built_for:
        return here >= (8, 0)
    return set(PORTABLE) <= set(built_for) and here >= as_pair(PORTABLE[-1])
