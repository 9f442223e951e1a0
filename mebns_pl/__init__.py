"""mebns_pl: link prediction with meta-bootstrapped negative sampling (MeBNS), on PyTorch Lightning.

Data has one way through the house:

    split -> proposal -> teacher filter -> selector -> weight net -> loss -> metrics -> logs

A :class:`LinkDataModule` reads and splits a graph and draws candidates (*proposal*). A system, :class:`Plain` or
:class:`MeBNS`, holds the predictors: the *teacher* drops easy candidates (*filter*), the *selector* picks among the
others by the *student*'s scores, the *weight net* weighs the picks. Every stage is a class of its own, named in YAML by
``class_path`` and usable alone from Python.
"""

from importlib.metadata import version

import lazy_loader

# What is exported stands in `__init__.pyi`, where type checkers look, too: importing all of it takes seconds
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("mebns_pl")
