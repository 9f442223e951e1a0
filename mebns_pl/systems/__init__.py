"""The LightningModules: the plain system and MeBNS."""

from mebns_pl.systems.mebns import MeBNS, Schedule
from mebns_pl.systems.plain import Plain

__all__ = ["MeBNS", "Plain", "Schedule"]
