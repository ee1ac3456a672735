"""spjax: soft prompts for frozen T5 models in JAX, and the scaling study of Lester et al. (2021).

    import spjax

    model = spjax.load_model("pocket_800k")
    task = spjax.load_task("pocket_boolq")
    method = spjax.PromptTuning(length=20)
    run = spjax.train(model, task, method, steps=100, output_dir="runs/boolq")
    print(run.validation, run.test)
    predictor = spjax.load_predictor("runs/boolq")

Importing the package loads nothing heavy: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # a test compares this list with what there is
    from spjax.api.hardware import HardwarePlan as HardwarePlan
    from spjax.api.hardware import plan as plan
    from spjax.api.methods import add_methods as add_methods
    from spjax.api.models import load_model as load_model
    from spjax.api.predictor import TextPredictor as TextPredictor
    from spjax.api.predictor import load_predictor as load_predictor
    from spjax.api.prompt_length import PromptLength as PromptLength
    from spjax.api.prompt_length import recommend_prompt_length as recommend_prompt_length
    from spjax.api.prompts import load_prompt as load_prompt
    from spjax.api.prompts import push_prompt as push_prompt
    from spjax.api.prompts import save_prompt as save_prompt
    from spjax.api.studies import StudyResult as StudyResult
    from spjax.api.studies import plot as plot
    from spjax.api.studies import sweep as sweep
    from spjax.api.studies import write_report as write_report
    from spjax.api.tasks import Task as Task
    from spjax.api.tasks import list_tasks as list_tasks
    from spjax.api.tasks import load_task as load_task
    from spjax.api.training import TrainedRun as TrainedRun
    from spjax.api.training import load_run as load_run
    from spjax.api.training import train as train
    from spjax.api.tuned_model import TunedModel as TunedModel
    from spjax.checkpoints.frozen_model import FrozenModel as FrozenModel
    from spjax.methods.base import Method as Method
    from spjax.methods.full_fine_tuning import FullFineTuning as FullFineTuning
    from spjax.methods.hard_prompt import HardPrompt as HardPrompt
    from spjax.methods.ia3 import IA3 as IA3
    from spjax.methods.initializers import ClassLabels as ClassLabels
    from spjax.methods.initializers import FromFile as FromFile
    from spjax.methods.initializers import SampledVocabulary as SampledVocabulary
    from spjax.methods.initializers import Text as Text
    from spjax.methods.initializers import Uniform as Uniform
    from spjax.methods.input_bias import InputBias as InputBias
    from spjax.methods.lora import LoRA as LoRA
    from spjax.methods.multitask_prompt_tuning import (
        MultitaskPromptTuning as MultitaskPromptTuning,
    )
    from spjax.methods.p_tuning import PTuning as PTuning
    from spjax.methods.prefix_tuning import PrefixTuning as PrefixTuning
    from spjax.methods.prompt_tuning import PromptTuning as PromptTuning
    from spjax.training.optimizers import Adafactor as Adafactor
    from spjax.training.optimizers import AdamW as AdamW
    from spjax.training.waywardness import Waywardness as Waywardness

_FOLDER = Path(__file__).parent
_MODULES = {
    "spjax.checkpoints.frozen_model": ("FrozenModel",),
    "spjax.api.hardware": ("HardwarePlan", "plan"),
    "spjax.api.methods": ("add_methods",),
    "spjax.api.models": ("load_model",),
    "spjax.api.predictor": ("TextPredictor", "load_predictor"),
    "spjax.api.prompt_length": ("PromptLength", "recommend_prompt_length"),
    "spjax.api.prompts": ("load_prompt", "push_prompt", "save_prompt"),
    "spjax.api.studies": ("StudyResult", "plot", "sweep", "write_report"),
    "spjax.api.tasks": ("Task", "list_tasks", "load_task"),
    "spjax.api.training": ("TrainedRun", "load_run", "train"),
    "spjax.api.tuned_model": ("TunedModel",),
    "spjax.methods.base": ("Method",),
    "spjax.training.optimizers": ("Adafactor", "AdamW"),
    "spjax.training.waywardness": ("Waywardness",),
}
_CLASS = re.compile(r"^class ([A-Za-z]\w*)\b(?!\(Protocol)", re.MULTILINE)


def _module_of_each_name() -> dict[str, str]:
    """The module of every public name; methods and initializers are read off their files."""
    names = {name: module for module, names in _MODULES.items() for name in names}
    for path in sorted((_FOLDER / "methods").glob("[a-z]*.py")):
        for name in _CLASS.findall(path.read_text(encoding="utf-8")):
            is_method = name.lower() == path.stem.replace("_", "")
            if is_method or path.stem == "initializers":
                names[name] = f"spjax.methods.{path.stem}"
    return names


_HOMES = _module_of_each_name()
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
