"""What the IO manager does, piece by piece: which output is meant, what is read, what is written, what is told."""
