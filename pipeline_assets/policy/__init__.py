"""What becomes of an attempt of a stage: what is tried again, when its time is up, whether it is wanted at all."""
