"""Scores candidates and chooses one: judges (InstructRM), embedding similarity, and the controls length and random."""
