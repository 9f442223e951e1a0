"""Which of an anchor's candidates stay."""
