"""Long runs: compiled loops over batches, streams, checkpoints, several devices and hosts."""
