"""Pools of candidate pairs for prediction: which pairs are scored where not all of them can be."""
