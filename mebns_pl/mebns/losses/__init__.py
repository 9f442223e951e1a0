"""What the student learns by: losses of edges against weighted non-edges."""
