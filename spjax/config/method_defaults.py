"""Default optimizer settings of a method, read from its gin file without touching gin's state."""

from __future__ import annotations

from typing import Any

from gin import config_parser

from spjax.config.reading import find_file

_SCOPE = "method_default"


class _Texts(config_parser.ParserDelegate):
    """Keeps references and macros as text; only plain values are looked at."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> str:
        """Returns the reference as it is written."""
        return f"@{scoped_name}{'()' if evaluate else ''}"

    def macro(self, scoped_name: str) -> str:
        """Returns the macro as it is written."""
        return f"%{scoped_name}"


def method_defaults(method: str) -> dict[str, Any]:
    """Returns what `gin_configs/methods/<method>.gin` says of the optimizer.

    Args:
      method: registered name of a method.

    Returns:
      Values by name, for example `{"LEARNING_RATE": 0.001, "Adafactor.weight_decay_rate": 0.0}`;
      empty for a method without a file.
    """
    try:
        path = find_file(f"gin_configs/methods/{method}.gin")
    except ValueError:
        return {}
    defaults: dict[str, Any] = {}
    for statement in config_parser.ConfigParser(path.read_text(encoding="utf-8"), _Texts()):
        if isinstance(statement, config_parser.BindingStatement) and statement.scope == _SCOPE:
            parameter = f".{statement.arg_name}" if statement.arg_name else ""
            defaults[statement.selector + parameter] = statement.value
    return defaults
