"""How well links are ranked: pure functions, and torchmetrics classes over them."""
