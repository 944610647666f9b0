"""Estimates with their errors: what rewards, judges and evaluations report. Pure functions of numbers."""
