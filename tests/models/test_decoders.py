"""Decoders by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from mebns_pl import DotDecoder, MLPDecoder, ResidualMLPDecoder
from mebns_pl.keys import Key
from mebns_pl.models.decoders.abstract import DECODERS

KEY = Key(10, "tests/decoders")
BUILDERS = {name: partial(cls, 4) for name, cls in DECODERS.classes.items()} | {
    "mlp 1": lambda: MLPDecoder(4, hidden_channels=8, num_layers=1),
    "mlp 2": lambda: MLPDecoder(4, hidden_channels=8, num_layers=2, dropout=0.5),
    "mlp 3": lambda: MLPDecoder(4, hidden_channels=8, num_layers=3, dropout=0.5),
    "residual 1": lambda: ResidualMLPDecoder(4, num_layers=1),
    "residual 3": lambda: ResidualMLPDecoder(4, num_layers=3, dropout=0.5),
}


@pytest.fixture
def ends() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(50, 4, generator=generator) for _ in range(2))
    return source, target, torch.arange(50)


@pytest.mark.parametrize("name", BUILDERS)
def test_symmetric_and_pair_by_pair(name: str, ends: tuple[Tensor, Tensor, Tensor]) -> None:
    source, target, rows = ends
    decoder = BUILDERS[name]()
    for key in (None, KEY):
        logits = decoder(source, target, rows, key)
        assert logits.shape == (50,)
        assert torch.equal(decoder(target, source, rows, key), logits)
        torch.testing.assert_close(decoder(source[7:9], target[7:9], rows[7:9], key), logits[7:9])
        assert decoder(source[:0], target[:0], rows[:0], key).shape == (0,)


def test_dot_is_the_inner_product_and_a_bias(ends: tuple[Tensor, Tensor, Tensor]) -> None:
    source, target, rows = ends
    decoder = DotDecoder(4)
    decoder.bias.data.fill_(2.0)
    expected = [
        sum(float(a) * float(b) for a, b in zip(s, t, strict=True)) + 2 for s, t in zip(source, target, strict=True)
    ]
    assert decoder(source, target, rows).tolist() == pytest.approx(expected, abs=1e-5)


def test_mlp_by_hand(ends: tuple[Tensor, Tensor, Tensor]) -> None:
    source, target, rows = ends
    decoder = BUILDERS["mlp 3"]()
    h = source * target
    for linear in decoder.hidden:
        h = (h @ linear.weight.t() + linear.bias).clamp(min=0)
    expected = (h @ decoder.last.weight.t() + decoder.last.bias)[:, 0]
    torch.testing.assert_close(decoder(source, target, rows), expected)
    assert [tuple(linear.weight.shape) for linear in decoder.hidden] == [(8, 4), (8, 8)]


def test_residual_mlp_by_hand(ends: tuple[Tensor, Tensor, Tensor]) -> None:
    source, target, rows = ends
    decoder = BUILDERS["residual 3"]()
    h = source * target
    for linear in decoder.hidden:
        h = (h @ linear.weight.t() + linear.bias + source * target).clamp(min=0)
    expected = (h @ decoder.last.weight.t() + decoder.last.bias)[:, 0]
    torch.testing.assert_close(decoder(source, target, rows), expected)
    assert len(decoder.hidden) == 2
    first = decoder(source, target, rows, KEY)
    assert torch.equal(first, decoder(source, target, rows, KEY))
    assert not torch.equal(first, decoder(source, target, rows, KEY.child("b")))


def test_mlp_dropout_is_keyed_by_layer(ends: tuple[Tensor, Tensor, Tensor]) -> None:
    source, target, rows = ends
    decoder = BUILDERS["mlp 2"]()
    first = decoder(source, target, rows, KEY)
    assert torch.equal(first, decoder(source, target, rows, KEY))
    assert not torch.equal(first, decoder(source, target, rows, KEY.child("b")))
    assert not torch.equal(first, decoder(source, target, rows))
    decoder.requires_grad_(False)
    # One pair under many names: the mean over masks is the pass without any
    many = decoder(source[:1].expand(20_000, 4), target[:1].expand(20_000, 4), torch.arange(20_000), KEY)
    assert float(many.mean()) == pytest.approx(float(decoder(source[:1], target[:1], rows[:1])), abs=0.02)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="num_layers.*0"):
        MLPDecoder(4, num_layers=0)
    with pytest.raises(ValueError, match="num_layers.*0"):
        ResidualMLPDecoder(4, num_layers=0)
    with pytest.raises(ValueError, match="dropout"):
        MLPDecoder(4, dropout=1.0)
