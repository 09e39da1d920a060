"""Resume and adoption: what is done after a failure."""
