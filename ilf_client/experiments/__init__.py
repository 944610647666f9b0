"""Experiments: declared sets of arms over the services, each step made once, ending in tables with their errors."""
