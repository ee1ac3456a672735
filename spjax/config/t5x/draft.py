"""A translation while it is made: settings of spjax, and an account of every binding of T5X."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from spjax.config.t5x import kinds, launch_scripts
from spjax.config.t5x.gin_files import Bindings

TRANSLATED = "translated"
NOT_NEEDED = "not needed"
DIFFERS = "changes the numbers"
LEFT = "left to the user"
INPUT = "FILE"  # of `spjax predict`
_TITLES = {
    DIFFERS: "CHANGES THE NUMBERS, and has no counterpart in spjax:",
    LEFT: "To fill in, in the command:",
    TRANSLATED: "Translated:",
    NOT_NEEDED: "Not needed, and without effect on the numbers:",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a binding of T5X, and what became of it.

    Attributes:
      kind: `TRANSLATED`, `NOT_NEEDED`, `DIFFERS` or `LEFT`.
      binding: as T5X's files have it, several with commas between; of `LEFT` the word in capitals.
      text: its counterpart in spjax, or the reason why there is none.
    """

    kind: str
    binding: str
    text: str


@dataclasses.dataclass
class Draft:
    """A translation.

    Attributes:
      bindings: of T5X.
      program: "train", "eval" or "infer".
      includes: gin files of spjax.
      settings: values in spjax's gin file by name.
      comments: that go with a setting.
      flags: of the command, without `--`.
      left_to_user: values that only the user knows, by name; the command has a word in capitals.
      environment: of the command.
      rows: the table.
    """

    bindings: Bindings
    program: str
    includes: list[str] = dataclasses.field(default_factory=list)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    comments: dict[str, str] = dataclasses.field(default_factory=dict)
    flags: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    left_to_user: dict[str, str] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)

    def set(self, name: str, value: Any, binding: str, comment: str = "") -> None:
        """Sets a value of spjax.

        Args:
          name: of the setting.
          value: a Python literal, or `Call` for an object.
          binding: the name in T5X that it comes from.
          comment: where the two values differ.
        """
        self.settings[name] = value
        if comment:
            self.comments[name] = comment
        shown = f"{name} = {launch_scripts.literal(value)}" + (f" ({comment})" if comment else "")
        self.rows.append(Row(TRANSLATED, binding, shown))

    def flag(self, name: str, value: Any, binding: str) -> None:
        """Sets a flag of the command."""
        self.flags.append((name, str(value)))
        shown = str(value) if isinstance(value, int) else launch_scripts.literal(value)
        self.rows.append(Row(TRANSLATED, binding, f"--{name}={shown}"))

    def note(self, kind: str, binding: str, text: str) -> None:
        """Adds a line of the table, once; variables of a script stand as in it."""
        row = Row(kind, launch_scripts.shown(binding), launch_scripts.shown(text))
        if row not in self.rows:
            self.rows.append(row)

    @property
    def differs(self) -> bool:
        """True if something that changes the numbers has no counterpart."""
        return any(row.kind == DIFFERS for row in self.rows)

    def command(self, gin_file: str) -> str:
        """Returns the command of spjax that does the same.

        Args:
          gin_file: the path of the file with `gin_text`.
        """
        flags = [(name, str(value)) for name, value in self.flags]
        if self.program == "train":
            flags = [("gin_file", gin_file)]
            given = {k: v for k, v in self.settings.items() if _stays_in_the_shell(v)}
            flags += [(f"gin.{name}", str(value)) for name, value in given.items()]
            flags += [(f"gin.{name}", word) for name, word in self.left_to_user.items()]
        environment = [f"{name}={_quoted(value)} " for name, value in self.environment.items()]
        verb = {"infer": "predict"}.get(self.program, self.program)
        lines = [f"{''.join(environment)}spjax {verb}"]
        lines += [f"  {INPUT}"] if self.program == "infer" else []
        lines += [f"  --{name}={_quoted(value)}" for name, value in flags]
        return " \\\n".join(lines)

    def gin_text(self, title: str, gin_file: str) -> str:
        """Returns the gin file of spjax, its head with the command and the table.

        Args:
          title: what was translated.
          gin_file: the path that the command names.
        """
        title = " ".join(title.split())  # a file's name may have a line break
        head = [f"Translated from {title} by `spjax translate`. Start it with", ""]
        head += self.command(gin_file).splitlines()
        if self.differs:
            head += ["", *self._block(DIFFERS)]
        lines = [*_commented(head), ""]
        lines += [*(f"include {name!r}" for name in self.includes), ""]
        for name, value in self.settings.items():
            if not _stays_in_the_shell(value):
                comment = " ".join(self.comments.get(name, "").split())
                lines.append(f"{name} = {value!r}" + (f"  # {comment}" if comment else ""))
        return "\n".join([*lines, "", *_commented(self.table().splitlines())]) + "\n"

    def _block(self, kind: str) -> list[str]:
        """Returns the lines of one kind of rows, none without such rows."""
        by_text: dict[str, list[str]] = {}
        for row in self.rows:
            if row.kind == kind:
                by_text.setdefault(row.text, []).append(row.binding)
        most = 6 if kind == NOT_NEEDED else 1000
        lines = [f"  {_listed(names, most)} -> {text}" for text, names in by_text.items()]
        return [_TITLES[kind], *lines] if lines else []

    def table(self) -> str:
        """Returns the table of what has a counterpart, and of what has none with the reason."""
        blocks = [self._block(kind) for kind in _TITLES]
        return "\n\n".join("\n".join(lines) for lines in blocks if lines)


class Call(str):
    """`@Name()` in a gin file of spjax."""

    def __repr__(self) -> str:
        """Returns the text without quotes."""
        return str(self)


def check_values(settings: Mapping[str, Any]) -> None:
    """Refuses values that only a shell or T5X could compute.

    Raises:
      ValueError: names the setting, and the variable or reference.
    """
    for name, value in settings.items():
        if not isinstance(value, str):
            kinds.given(name, value)


def _commented(lines: Sequence[str]) -> list[str]:
    """Returns lines as comments, also where a text of a script has line breaks in it."""
    return [f"# {part}".rstrip() for line in lines for part in line.splitlines() or [""]]


def _stays_in_the_shell(value: Any) -> bool:
    return isinstance(value, str) and launch_scripts.has_variables(value)


def _quoted(value: str) -> str:
    """Returns a word of a command line; variables and commands in it stay what they are."""
    if re.fullmatch(r"[\w./:=,+@%-]+", value, re.ASCII):
        return value
    return f'"{launch_scripts.as_shell_text(value)}"'


def _listed(names: Sequence[str], most: int) -> str:
    """Returns names with commas between; the first ones of more than `most`."""
    names = sorted(set(names))
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
