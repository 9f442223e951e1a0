"""How much each picked negative counts in the loss, before a weight net."""
