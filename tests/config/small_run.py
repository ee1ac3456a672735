"""Gin files of a small run, and the bindings that they need."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [
    "gin_configs/models/pocket.gin",
    "gin_configs/runs/pocket.gin",
    "gin_configs/methods/prompt_tuning.gin",
]
NEEDED = ["MODEL_SIZE = pocket_50k", "MIXTURE_OR_TASK_NAME = pocket_cb"]
