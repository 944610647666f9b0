"""The word-removal toy task: sentences that list harmless insults, and feedback that names words to drop."""
