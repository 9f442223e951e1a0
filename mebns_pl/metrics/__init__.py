"""How well links are ranked: pure functions, and torchmetrics classes over them."""

from mebns_pl.metrics.ranking import AUC, MRR, AveragePrecision, HitsAt, classification_metrics, link_metrics

__all__ = ["AUC", "MRR", "AveragePrecision", "HitsAt", "classification_metrics", "link_metrics"]
