"""Rules that pick negatives among candidates, by the student's scores or without them."""
