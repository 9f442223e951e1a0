"""Decoders: two embeddings -> a logit. One file a class."""
