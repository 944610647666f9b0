"""How many replicas each serving pool is to have, and why: no input or output but through `ports`."""
