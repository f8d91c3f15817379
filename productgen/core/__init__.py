"""What every method builds on: state, randomness, steps, sharding, checkpoints, optimisers."""
