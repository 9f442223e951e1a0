"""The LightningModules: the plain system, MeBNS, and heuristics that learn nothing."""

from mebns_pl.systems.heuristic import Heuristic
from mebns_pl.systems.mebns import MeBNS, Schedule
from mebns_pl.systems.plain import Plain
from mebns_pl.systems.rank_watch import RankWatch
from mebns_pl.systems.updates import Updates

__all__ = ["Heuristic", "MeBNS", "Plain", "RankWatch", "Schedule", "Updates"]
