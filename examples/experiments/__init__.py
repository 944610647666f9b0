"""The paper's studies as declared experiments, on the word-removal task and on SLF5K's files."""
