"""The LightningModules: the plain system, MeBNS, and heuristics that learn nothing."""
