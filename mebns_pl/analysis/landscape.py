"""The loss landscape round trained students: measured, drawn, and written for TensorBoard."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.tensorboard import SummaryWriter

from mebns_pl.analysis.figures import surface_figure
from mebns_pl.analysis.loss_geometry import (
    Estimate,
    Loss,
    Params,
    hessian_trace,
    loss_surface,
    random_direction,
    top_eigenvalue,
)
from mebns_pl.checks import at_least, expect
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.errors import DataError
from mebns_pl.files import naming, write_atomically
from mebns_pl.keys import Key, permutation
from mebns_pl.mebns.losses.abstract import Counts
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.systems.link_system import AbstractLinkSystem


@dataclass(frozen=True)
class LandscapeOptions:
    """What is measured, and how finely.

    Args:
        num_pairs: training edges in the loss, 1 or more, and as many uniform legal negatives; half of the training
            edges at most, for messages to pass along the others.
        num_probes: random vectors of the trace's estimate, 2 or more.
        grid: points of the surface along each direction, odd, 3 or more.
        span: how far it reaches on either side, above 0; at 1 a filter is moved by its own norm.
        seed: names pairs, probes and directions.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> LandscapeOptions(grid=5).offsets.tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """

    num_pairs: int = 1024
    num_probes: int = 30
    grid: int = 21
    span: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, num_pairs=self.num_pairs)
        at_least(2, num_probes=self.num_probes)
        expect(self.grid >= 3 and self.grid % 2 == 1, "an odd number of 3 or more", grid=self.grid)
        expect(0 < self.span < float("inf"), "a number above 0", span=self.span)

    @property
    def offsets(self) -> Tensor:
        """``(grid,)`` float64 from ``-span`` to ``span``, 0 in the middle."""
        half = self.grid // 2
        return self.span * torch.arange(-half, half + 1, dtype=torch.float64) / half


@dataclass(frozen=True)
class Landscape:
    """What was measured of one student.

    Args:
        loss: at its weights.
        top_eigenvalue: the largest of the loss's Hessian.
        trace: of the Hessian, estimated.
        offsets: ``(n,)`` float64.
        surface: ``(n, n)`` float64 losses along two directions, the first down.

    Example:
        >>> Landscape(0.5, 2.0, Estimate(9.0, 0.1), torch.zeros(1), torch.zeros(1, 1)).trace.error
        0.1
    """

    loss: float
    top_eigenvalue: float
    trace: Estimate
    offsets: Tensor
    surface: Tensor


def fixed_loss(
    system: AbstractLinkSystem, data: LinkDataModule, num_pairs: int, key: Key, device: torch.device | str = "cpu"
) -> tuple[Loss, Params]:
    """A system's student as a function from its parameters to the plain balanced loss on fixed pairs, in float64.

    The pairs are training edges (of those that MeBNS, too, learns from) and as many uniform legal negatives, one
    opposite an end of each; they depend on data and key alone. The edges are left out of message passing, and there is
    no dropout.

    Returns:
        The loss, and the trained parameters, at which to begin.

    Raises:
        DataError: nothing in the student is learned; no negative, or no two training edges.
    """
    student = copy.deepcopy(system.student).to(device, torch.float64)
    params = {name: value.detach() for name, value in student.named_parameters()}
    if not params:
        raise DataError(f"ckpt: a {type(system.student).__name__} learns nothing, so there is no landscape to look at")
    train = data.split.train
    size = min(num_pairs, train.shape[1] // 2)
    positives = train[:, permutation(train.shape[1], key.child("edges"))[:size]]
    turned = torch.rand(size, generator=key.child("turn").generator()) < 0.5
    anchors = torch.where(turned, positives[1], positives[0])
    proposal = UniformProposal()
    proposal.setup(data.train_graph, data.known)  # of an oracle's run, too: landscapes are compared on one loss
    nodes = proposal.draw(anchors, 1, key.child("nodes"))[:, 0]
    negatives = torch.stack([anchors, nodes])[:, ~data.known.mask(anchors, nodes)]
    if not positives.shape[1] or not negatives.shape[1]:
        raise DataError(f"{data.loaded.name}: too small for a loss of training edges against legal negatives")
    graph = data.train_graph.without(positives)
    graph = graph if graph.x is None else replace(graph, x=graph.x.type(torch.float64))
    inputs = student.prepare(graph.to(device), torch.cat([positives, negatives], dim=1).to(device))
    sizes = torch.tensor([positives.shape[1], negatives.shape[1], 1], device=device)
    weights = torch.ones(1, negatives.shape[1], dtype=torch.float64, device=device)

    def loss(at: Params) -> Tensor:
        logits = functional_call(student, at, (inputs,))
        return BinaryCrossEntropy().share(logits[:size], logits[None, size:], weights, Counts(*sizes))

    return loss, params


def measure_landscape(
    system: AbstractLinkSystem,
    data: LinkDataModule,
    options: LandscapeOptions = LandscapeOptions(),
    device: torch.device | str = "cpu",
) -> Landscape:
    """Curvature and surface of the loss round a trained student.

    The system is left as it is.

    Args:
        system: a trained system.
        data: its data module.
        options: what is measured.
        device: where it is computed.

    Cost: in backward passes of the loss about 40 to 200 for the eigenvalue and ``2 num_probes`` for the trace, then
    ``grid`` squared forward passes; 20 vectors as long as the student's parameters in float64.

    Raises:
        DataError: nothing is learned, or there is too little data for a loss.
        ValueError: the eigenvalue's iteration does not converge.

    Example:
        >>> from mebns_pl import LinkDataModule, Plain
        >>> data = LinkDataModule(graph="air_routes")
        >>> options = LandscapeOptions(num_pairs=50, num_probes=2, grid=3)
        >>> found = measure_landscape(Plain(data.spec), data, options)
        >>> tuple(found.surface.shape), found.surface[1, 1].item() == found.loss
        ((3, 3), True)
    """
    key = Key(options.seed, "landscape")
    loss, params = fixed_loss(system, data, options.num_pairs, key, device)
    directions = random_direction(params, key.child("first")), random_direction(params, key.child("second"))
    with torch.no_grad():
        here = float(loss(params))
    return Landscape(
        loss=here,
        top_eigenvalue=top_eigenvalue(loss, params, key.child("eigenvalue")),
        trace=hessian_trace(loss, params, key.child("trace"), options.num_probes),
        offsets=options.offsets,
        surface=loss_surface(loss, params, directions, options.offsets),
    )


def write_landscapes(found: Mapping[str, Landscape], folder: str | Path) -> pd.DataFrame:
    """Draws landscapes on one colour scale and writes them, for TensorBoard and as files.

    For each ``<folder>/<name>/surface.png``, ``surface.csv``, and TensorBoard's events: the figure
    ``landscape/surface``, the scalars ``landscape/loss``, ``landscape/top_eigenvalue``, ``landscape/trace`` and
    ``landscape/trace_error``. For all together ``<folder>/landscape.csv``.

    Args:
        found: by name.
        folder: where to write.

    Returns:
        The numbers, a row each: ``name``, ``loss``, ``top_eigenvalue``, ``trace``, ``trace_error``.
    """
    folder = Path(folder)
    losses = [float(loss) for landscape in found.values() for loss in landscape.surface.aminmax()]
    scale = min(losses), max(losses)  # the colours of all figures
    rows = []
    for name, landscape in found.items():
        place = folder / name
        trace, error = landscape.trace
        row = {"loss": landscape.loss, "top_eigenvalue": landscape.top_eigenvalue, "trace": trace, "trace_error": error}
        figure = surface_figure(landscape.surface, landscape.offsets, f"Loss round\n{name}", scale)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        write_atomically(place / "surface.png", picture.getvalue())
        offsets = [f"{value:g}" for value in landscape.offsets.tolist()]
        surface = pd.DataFrame(landscape.surface.numpy(), offsets, offsets)
        write_atomically(place / "surface.csv", surface.to_csv(index_label="first"))
        with naming(place), SummaryWriter(str(place)) as writer:
            writer.add_figure("landscape/surface", figure)
            for measure, value in row.items():
                writer.add_scalar(f"landscape/{measure}", value)
            writer.flush()  # which tells what went wrong; closing it does not
        rows.append({"name": name, **row})
    table = pd.DataFrame(rows)
    write_atomically(folder / "landscape.csv", table.to_csv(index=False))
    return table
