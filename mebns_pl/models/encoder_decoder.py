"""Encoder + decoder as a link predictor: encode the graph once, decode many pairs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.decoders.abstract import AbstractDecoder
from mebns_pl.models.decoders.mlp import MLPDecoder
from mebns_pl.models.encoders.gcn import GCN
from mebns_pl.models.predictor import AbstractEncodingPredictor, PairInputs
from mebns_pl.models.pyg import EncoderFactory, make_encoder
from mebns_pl.types import GraphSpec


class EncoderDecoder(AbstractEncodingPredictor[PairInputs]):
    """A node encoder with a pair decoder.

    Args:
        spec: the graph's size.
        encoder: makes the encoder from the spec.
        decoder: makes the decoder from the width of the embeddings.

    Cost of M pairs: one encoding of the graph, and M decodings.

    Example:
        >>> import torch
        >>> from mebns_pl.models.decoders.dot import DotDecoder
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> predictor = EncoderDecoder(graph.spec, GCN, DotDecoder)
        >>> predictor(predictor.prepare(graph, torch.tensor([[0], [2]]))).shape
        torch.Size([1])
    """

    decodes = True

    def __init__(
        self,
        spec: GraphSpec,
        encoder: EncoderFactory = GCN,
        decoder: Callable[[int], AbstractDecoder] = MLPDecoder,
    ) -> None:
        super().__init__(make_encoder(encoder, spec))
        self.decoder = decoder(self.encoder.out_channels)

    def prepare(self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None) -> PairInputs:
        """The pairs themselves."""
        return self.pair_inputs(graph, pairs, rows, key)

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[PairInputs], Tensor]:
        """Encodes ``graph`` once; the function returned decodes."""
        z = self.encoder(graph, key and key.child("encoder"))

        def score(inputs: PairInputs) -> Tensor:
            return self.decoder.of_pairs(z, inputs.pairs, inputs.rows, inputs.key and inputs.key.child("decoder"))

        return score
