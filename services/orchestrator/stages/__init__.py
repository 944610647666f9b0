"""The stages of an iteration: what each does to the rows of a shard."""
