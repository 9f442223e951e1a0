"""Encoders: a graph -> one embedding a node. One file a class."""
