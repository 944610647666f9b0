"""Reward models: what they are trained on, how texts become their input, and how they are loaded and measured."""
