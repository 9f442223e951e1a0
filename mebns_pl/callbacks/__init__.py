"""Lightning callbacks: migration, the table of results, the prediction writer."""
