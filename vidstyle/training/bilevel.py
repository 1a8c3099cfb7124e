"""MetaStyle's bilevel step (Zhang, Zhu, Zhu 2019, Algorithm 1).

For each style of a batch: from the shared start, T steps of gradient descent on content photos (the
inner problem); then the loss of what that came to, on photos of another set, and its gradient with
respect to everything that the inner steps began with (the outer problem). Of second order: the
gradient goes through the inner steps themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from vidstyle.options import check_between, check_choice

Inner = Literal["norm", "all"]
B = TypeVar("B")
Loss = Callable[[B, Tensor, Mapping[str, Tensor] | None], Tensor]
"""The loss of each style, (S,), from a batch, style vectors (S, P) and weights (None: the network's own)."""


@dataclass(frozen=True, kw_only=True)
class InnerOptions:
    """The inner problem."""

    steps: int = 1
    """T, gradient steps on a style, each on photos of its own."""
    rate: float = 0.1
    """delta, their length. It belongs to the loss: the paper's 1e-5 is for a style weight of 1e5 and does
    nothing here."""
    moves: Inner = "norm"
    """``norm``: the style vector (the instance norms' parameters), as the authors train it. ``all``: every
    weight as well, as the paper writes it."""
    first_order: bool = False
    """Take the inner gradient for a constant: cheaper, and nearly as good (Nichol et al. 2018)."""

    def __post_init__(self) -> None:
        check_between("inner steps", self.steps, 0, 1000)
        check_between("inner rate", self.rate, 0, 100)
        check_choice("inner", self.moves, get_args(Inner))


def adapted(
    loss: Loss[B],
    batches: Sequence[B],
    vectors: Tensor,
    weights: Mapping[str, Tensor],
    options: InnerOptions,
) -> tuple[Tensor, Mapping[str, Tensor] | None]:
    """Style vectors (S, P) and weights after one inner step on each of ``batches``.

    Everything keeps its graph back to ``vectors`` and ``weights``. The weights are None (the network's
    own) unless they move; then they belong to one style, and S must be 1.
    """
    own: Mapping[str, Tensor] | None = None
    if options.moves == "all":
        assert len(vectors) == 1, "weights that move belong to one style"
        own = dict(weights)
    for batch in batches:
        total = loss(batch, vectors, own).sum()  # a style's vector sees its own loss alone
        moving = [vectors, *(own or {}).values()]
        gradients = torch.autograd.grad(total, moving, create_graph=not options.first_order)
        vectors, *moved = [m - options.rate * g for m, g in zip(moving, gradients, strict=True)]
        own = own and dict(zip(own, moved, strict=True))
    return vectors, own


def even_shares(losses: Tensor) -> Tensor:
    """A scalar with the value of ``losses.mean()`` and the gradient of its logarithms.

    A pale painting has twice the loss of others and would have twice the say. ``losses`` is (S,).
    """
    mean = losses.detach().mean()
    return (losses / losses.detach().clamp_min(1e-12)).mean() * mean
