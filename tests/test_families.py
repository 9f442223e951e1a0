"""A family is what lies in its folder: nothing is registered, nothing else is listed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mebns_pl.families import Family
from mebns_pl.graph.measures.abstract import MEASURES, PAIR_MEASURES
from mebns_pl.models.decoders.abstract import DECODERS
from mebns_pl.models.encoders.abstract import ENCODERS
from mebns_pl.models.predictor import PREDICTORS
from mebns_pl.pools.abstract import POOLS

ABSTRACT = '''
from abc import ABC, abstractmethod

class AbstractSpice(ABC):
    """What all spices are."""

    @abstractmethod
    def taste(self): ...

class AbstractSeed(AbstractSpice):
    """Still abstract."""
'''
PEPPER = '''
from own_spices.abstract import AbstractSeed, AbstractSpice

class Pepper(AbstractSeed):
    """Hot, and ``black``: the first line.

    And more.
    """

    def taste(self): ...

class Cumin(AbstractSpice):
    def taste(self): ...

class _Hidden(Pepper):
    """Nobody's business."""

class Stranger:
    """No spice at all."""
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "own_spices"
    (package / "rare").mkdir(parents=True)
    for file, text in {"abstract": ABSTRACT, "pepper": PEPPER, "__init__": "", "rare/__init__": ""}.items():
        (package / f"{file}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.startswith("own_spices")]:
        del sys.modules[name]


def family() -> Family:
    import own_spices.abstract

    return Family(own_spices.abstract.AbstractSpice, "--data.spice")


def test_concrete_classes_of_the_folder_by_name(folder: Path) -> None:
    found = family()
    assert found.package == "own_spices"
    assert list(found.classes) == ["Cumin", "Pepper"]
    assert found.rules == {"Cumin": "", "Pepper": "Hot, and black: the first line."}
    assert found.named("Pepper").__module__ == "own_spices.pepper"


def test_a_new_file_is_enough(folder: Path) -> None:
    (folder / "rare" / "saffron.py").write_text(PEPPER.replace("Pepper", "Saffron").replace("Cumin", "Sumac"))
    assert list(family().classes) == ["Cumin", "Pepper", "Saffron", "Sumac"]


def test_classes_from_elsewhere_are_not_listed(folder: Path) -> None:
    found = family()

    class Homemade(found.base):  # type: ignore[name-defined,misc]
        def taste(self) -> None: ...

    elsewhere = ModuleType("own_spices_elsewhere")
    elsewhere.Homemade = Homemade  # type: ignore[attr-defined]
    assert "Homemade" not in found.classes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Peper", "--data.spice: got 'Peper', did you mean Pepper? Allowed are Cumin, Pepper"),
        ("xyz", "--data.spice: got 'xyz'; allowed are Cumin, Pepper"),
        ("AbstractSeed", "--data.spice: got 'AbstractSeed'; allowed are Cumin, Pepper"),
    ],
)
def test_unknown_names_are_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        family().named(name)


FAMILIES = [ENCODERS, DECODERS, PREDICTORS, MEASURES, PAIR_MEASURES, POOLS]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.base.__name__)
def test_families_of_the_package(family: Family) -> None:
    import mebns_pl

    assert len(family.classes) > 1
    for name, cls in family.classes.items():
        assert getattr(mebns_pl, name) is cls, f"{name} is not exported"
        assert family.named(name) is cls
        assert family.rules[name].endswith((".", ":")), f"{name}: its docstring does not begin with a sentence"
