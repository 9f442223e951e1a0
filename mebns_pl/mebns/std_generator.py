"""The STD-Generator: structure-enhanced negatives that the teacher learns from."""

from __future__ import annotations

from dataclasses import dataclass

from mebns_pl.checks import at_least, within


@dataclass(frozen=True)
class StdGenerator:
    """Teacher negatives: each is structural with probability ``structure_ratio``, else the sampler's.

    After Wang et al., *Not All Negatives Are Worth Attending to: Meta-Bootstrapping Negative Sampling Framework for
    Link Prediction*, WSDM 2024; how structural negatives are made is this project's reconstruction: they are draws of
    the data module's ``structure``.

    Args:
        structure_ratio: in [0, 1]; 0 is the sampler's proposal alone (a uniform one in place of an adaptive one), 1
            structure alone.
        num_negatives: T, negatives an anchor, at least 1.

    Raises:
        ValueError: ``structure_ratio`` or ``num_negatives`` is out of range.

    Example:
        >>> StdGenerator(structure_ratio=0.25)
        StdGenerator(structure_ratio=0.25, num_negatives=1)
    """

    structure_ratio: float = 0.5
    num_negatives: int = 1

    def __post_init__(self) -> None:
        within("[0, 1]", structure_ratio=self.structure_ratio)
        at_least(1, num_negatives=self.num_negatives)
