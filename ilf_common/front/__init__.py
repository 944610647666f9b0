"""The always-on front of a pool of workers: receives calls while the pool sleeps, and forwards them."""
