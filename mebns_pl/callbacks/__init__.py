"""Lightning callbacks: migration and its figures, results, the last checkpoint, preemption."""
