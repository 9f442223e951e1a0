"""Distributions over candidate nodes: static ones, by the training graph alone, and adaptive ones, by the student."""
