"""A sampler as one concept: where candidates come from, which of them are picked, and how much each one counts."""

from __future__ import annotations

from mebns_pl.checks import at_least
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal, AbstractProposal, AbstractStaticProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.negatives.selectors.abstract import AbstractSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting


class Sampler:
    """A negative sampler: alone in :class:`~mebns_pl.systems.plain.Plain`, filtered and weighted in MeBNS.

    Args:
        proposal: draws candidates; uniform by default.
        num_candidates: K, candidates an anchor, 1 or more.
        selector: picks negatives among the candidates; the first (that is, the proposal's own draw) by default.
        weighting: weights of the picked negatives; equal by default.

    Attributes:
        adaptive: the proposal where it draws in the step, else None.
        static: the proposal where it draws ahead, else a uniform one: what is mixed with structural non-edges.

    Raises:
        ValueError: ``num_candidates`` is below 1.
        TypeError: ``proposal`` is of neither kind.

    Example:
        >>> from mebns_pl.negatives.selectors.hardest import HardestSelector
        >>> dns = Sampler(num_candidates=32, selector=HardestSelector())
        >>> type(dns.proposal).__name__
        'UniformProposal'
    """

    def __init__(
        self,
        proposal: AbstractProposal | None = None,
        num_candidates: int = 8,
        selector: AbstractSelector | None = None,
        weighting: AbstractNegativeWeighting | None = None,
    ) -> None:
        at_least(1, num_candidates=num_candidates)
        if not isinstance(proposal, AbstractStaticProposal | AbstractAdaptiveProposal | None):
            kinds = "an AbstractStaticProposal or an AbstractAdaptiveProposal"
            raise TypeError(f"proposal: expected {kinds}, got {type(proposal).__name__}")
        self.num_candidates = num_candidates
        self.selector = selector or FirstSelector()
        self.weighting = weighting or EqualWeighting()
        self.adaptive = proposal if isinstance(proposal, AbstractAdaptiveProposal) else None
        self.static = proposal if isinstance(proposal, AbstractStaticProposal) else UniformProposal()
        self.proposal: AbstractProposal = self.adaptive or self.static
