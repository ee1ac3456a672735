"""Error messages that name Python arguments instead of gin macros and command-line flags."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

# What the layers below say, as regular expressions, and what a Python caller can act on.
_REPLACEMENTS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"--gin\.MODEL_DIR=FOLDER": "output_dir=FOLDER",
    r"with --output_dir or --gin\.MODEL_DIR": "with output_dir",
    r"another MODEL_DIR": "another output_dir",
    r"with --gin\.VALIDATION_FILE=PATH and --gin\.TEST_FILE=PATH": "as validation and test",
    r"--gin\.TASK_FILE=PATH": "path=PATH",
    r"--gin\.TASK_(TEMPLATE|TARGET)=": lambda match: f"{match[1].lower()}=",
    r" \(of gin_configs/tasks/file\.gin\)": "",
    r"Set INITIAL_CHECKPOINT_PATH": "Give its checkpoint as checkpoint=PATH",
    r"INITIAL_CHECKPOINT_PATH": "the checkpoint",
    r"give the model, with --checkpoint=PATH": "give the model, with model=PATH",
    r"Give the model, with --checkpoint=PATH, or --model=SIZE for one that ships": (
        "Give the model, a path or a size that ships, with model="
    ),
    r"Give the right one, with --vocabulary=PATH": (
        "Give the model as spjax.load_model(..., vocabulary=PATH)"
    ),
    r"\bTRAIN_STEPS\b": "steps",
    r"\bBATCH_SIZE\b": "batch_size",
    r"\bDROPOUT_RATE\b": "dropout_rate",
    r"\bPROMPT_LENGTH\b": "length",
    r"\bLEARNING_RATE\b": "learning_rate",
    r"\bRun\.(?=[a-z])": "",
    r"--(?:gin\.)?([A-Za-z_.]+)=": r"\1=",
}


@contextlib.contextmanager
def python_messages() -> Iterator[None]:
    """Rewords a ValueError raised inside the block for a caller in Python.

    Raises:
      ValueError: the error of the block, with arguments in place of flags and macros.
    """
    try:
        yield
    except ValueError as error:
        text = reword(str(error))
        if text == str(error) or type(error) is not ValueError:
            raise
        raise ValueError(text) from error


def reword(text: str) -> str:
    """Returns a message with Python arguments in place of flags and gin macros."""
    text = text.replace("The command `spjax tasks` lists them.", "spjax.list_tasks() lists them.")
    parts = re.split(r"(`[^`]*`)", text)  # commands in backquotes stay as they are
    for i in range(0, len(parts), 2):
        for pattern, replacement in _REPLACEMENTS.items():
            parts[i] = re.sub(pattern, replacement, parts[i])
    return "".join(parts)
