"""Measures of proximity: one file a measure, or a few that are alike."""
