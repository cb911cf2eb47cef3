"""What can be learned from episodes: pure functions over models, the same way on every engine."""
