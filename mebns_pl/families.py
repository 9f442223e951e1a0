"""Families: the classes behind one abstraction, found in the folder that they live in and registered nowhere.

A class that is written into a folder of its family is in every listing, every table and every contract test of it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Family:
    """The classes that can be built below a base class, in the package of the base class and the packages within it.

    Nothing is imported before the classes are asked for, so that a family can be written beside its base class.

    Args:
        base: the base class.
        option: where a configuration names a class of the family, for people to read.

    Example:
        >>> from mebns_pl.models.encoders.abstract import ENCODERS
        >>> list(ENCODERS.classes)
        ['GAT', 'GCN', 'LinearGCN', 'SAGE']
        >>> ENCODERS.rules["GCN"]
        'Graph convolutional network (Kipf and Welling, 1609.02907, eq. 2).'
        >>> ENCODERS.named("GNC")
        Traceback (most recent call last):
            ...
        ValueError: --model.predictor.encoder: got 'GNC', did you mean GCN? Allowed are GAT, GCN, LinearGCN, SAGE
    """

    base: type
    option: str

    @property
    def package(self) -> str:
        """The dotted name of the folder that the family lives in: that of the base class."""
        return self.base.__module__.rpartition(".")[0]

    @cached_property
    def classes(self) -> dict[str, type]:
        """The classes by name, in alphabetical order; private and abstract ones are left out."""
        folder = importlib.import_module(self.package)
        found: dict[str, type] = {}
        for info in pkgutil.walk_packages(folder.__path__, f"{self.package}."):
            for name, cls in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
                own = cls.__module__ == info.name and not name.startswith("_")
                if own and issubclass(cls, self.base) and not inspect.isabstract(cls):
                    found[name] = cls
        return dict(sorted(found.items()))

    @property
    def rules(self) -> dict[str, str]:
        """The first line of each class's docstring, without markup, by the class's name; "" where it has none."""
        docs = {name: (cls.__doc__ or "").strip() for name, cls in self.classes.items()}
        return {name: doc.partition("\n")[0].replace("``", "") for name, doc in docs.items()}

    def named(self, name: str) -> type:
        """The class of a short name.

        Raises:
            ValueError: there is none; tells the one that may have been meant, and all that are allowed.
        """
        if name in self.classes:
            return self.classes[name]
        near = difflib.get_close_matches(name, self.classes, 1)
        meant = f", did you mean {near[0]}? Allowed" if near else "; allowed"
        raise ValueError(f"{self.option}: got {name!r}{meant} are {', '.join(self.classes)}")


def rules_in_source(package: str, base: str) -> dict[str, str]:
    """:attr:`Family.rules` of the classes in a package's own folder, read from their source: none is imported.

    Args:
        package: its dotted name; packages above it are imported, and must be empty.
        base: name of the base class.

    Example:
        >>> from mebns_pl.models.encoders.abstract import ENCODERS
        >>> rules_in_source("mebns_pl.models.encoders", "AbstractEncoder") == ENCODERS.rules
        True
    """
    spec = importlib.util.find_spec(package)
    assert spec is not None
    folder = Path((spec.submodule_search_locations or [""])[0])
    found = {
        node.name: node
        for path in sorted(folder.glob("*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    }

    def is_one(name: str) -> bool:
        bases = [part.id for part in found[name].bases if isinstance(part, ast.Name)] if name in found else []
        return base in bases or any(is_one(part) for part in bases)

    docs = {name: (ast.get_docstring(found[name]) or "") for name in sorted(found) if is_one(name)}
    return {
        name: doc.partition("\n")[0].replace("``", "")
        for name, doc in docs.items()
        if not name.startswith(("_", "Abstract"))
    }


def import_all(package: str = "mebns_pl") -> None:
    """Imports all that a package exports: classes that a base class is to know must have been imported.

    Args:
        package: its dotted name.
    """
    module = importlib.import_module(package)
    for name in module.__all__:
        getattr(module, name)
