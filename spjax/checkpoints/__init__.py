"""Frozen weights and prompts, in and out."""
