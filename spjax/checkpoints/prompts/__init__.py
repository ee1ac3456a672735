"""Prompt files of every format, PEFT adapters, and the provenance of what was trained."""
