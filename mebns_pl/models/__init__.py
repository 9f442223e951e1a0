"""Link predictors, their parts, and the weight net."""

from mebns_pl.models.decoders import AbstractDecoder, DotDecoder, MLPDecoder
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.encoders import GAT, GCN, SAGE, AbstractEncoder
from mebns_pl.models.ncn import NCN
from mebns_pl.models.predictor import LinkPredictor, PairInputs
from mebns_pl.models.seal import SEAL
from mebns_pl.models.weight_net import WeightNet
from mebns_pl.types import Inputs

__all__ = [
    "GAT", "GCN", "NCN", "SAGE", "SEAL", "AbstractDecoder", "AbstractEncoder", "DotDecoder", "EncoderDecoder", "Inputs",
    "LinkPredictor", "MLPDecoder", "PairInputs", "WeightNet",
]  # fmt: skip
