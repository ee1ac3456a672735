"""Splits a shell script into commands, and follows its variables without running it.

Of the shell's language these are known: assignments, `$NAME`, `${NAME}`, `${NAME:-DEFAULT}`,
quotes, continued lines, here-documents, and prompt-tuning's `find_module` in backquotes. What else
a word contains stays in it as it is, and goes back into a shell's command line.

What a variable holds where the script may have gone several ways is not known: after a branch, a
loop or a function that assigns it, after `&& NAME=...`, and after a command such as `read`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

LITERALS = {"$": "\ue000", "`": "\ue001"}  # marks of those that the shell leaves alone
OPEN = {"$": "\ue002", "`": "\ue003"}  # marks of those that only a shell can replace
ARRAY = "\ue004"  # mark of the parenthesis that opens `NAME=(...)`

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_DECLARE = ("export", "local", "declare", "readonly", "typeset")
_SETS = ("read", "unset", "getopts", "let", "mapfile", "readarray", "printf")
_FIND_MODULE = re.compile(r"find_module\s+(\w+)\s*$")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^{}]*))?\}|\$([A-Za-z_]\w*)")
_HEREDOC = re.compile(r"(?<!<)<<-?(?!<)[ \t]*\\?(['\"]?)([\w.-]+)\1")
_OPENS = {"if": "branch", "while": "loop", "until": "loop", "for": "loop", "select": "loop"}


class Token(NamedTuple):
    """A word, or an operator such as `;`, a line's end and the borders of a here-document."""

    text: str
    operator: bool = False


def tokens(text: str) -> list[Token]:
    """Splits a script as a shell does; what single quotes and backslashes keep is marked."""
    text = text.replace("\r\n", "\n")
    parts: list[Token] = []
    bodies: list[str] = []  # what ends the here-documents that begin in this line
    word: str | None = None
    quote, braces, i = "", 0, 0

    def end_word() -> None:
        nonlocal word
        if word is not None:
            parts.append(Token(word))
        word = None

    while i < len(text):
        char, rest = text[i], text[i : i + 2]
        if quote == "'" and char != "'":
            word = (word or "") + LITERALS.get(char, char)
        elif rest == "\\\n" and quote != "'":
            i += 1
        elif char == "\\" and quote != "'" and len(rest) == 2:
            kept = "\\" if quote and rest[1] not in '$`"\\' else ""
            word = (word or "") + kept + LITERALS.get(rest[1], rest[1])
            i += 1
        elif (
            char == "`" or rest == "$(" or char == "(" and not quote and word and word[-1] in "=<>"
        ):
            end = _end_of_command(text, i)
            body = text[i:end]
            word = (word or "") + (ARRAY + body[1:] if char == "(" else body)
            i = end - 1
        elif char in "'\"" and (not quote or quote == char):
            word = word or ""
            quote = "" if quote else char
        elif quote or braces or rest == "${":
            braces += {"${": 1}.get(rest, 0) - (char == "}" and braces > 0)
            word = (word or "") + char
        elif char == "#" and word is None:
            i += len(text[i:].partition("\n")[0]) - 1
        elif char.isspace():
            end_word()
            if char == "\n":
                parts.append(Token(char, True))
                i += _add_bodies(text[i + 1 :], bodies, parts)
        elif match := _HEREDOC.match(text, i):
            end_word()
            bodies.append(match[2])
            i = match.end() - 1
        elif char in "<>" or rest == "&>" or char in "&|" and word and word[-1] in "<>":
            if word is not None and not re.fullmatch(r"\d*|[\d&<>]+", word):
                end_word()
            word = (word or "") + char
        elif char in ";&|()":
            end_word()
            double = rest in (";;", "&&", "||", ";&")
            parts.append(Token(rest if double else char, True))
            i += double
        else:
            word = (word or "") + char
        i += 1
    end_word()
    return parts


def _end_of_command(text: str, start: int) -> int:
    """Returns where a substituted command or an array ends, the closing character included."""
    if text[start] == "`":
        end = text.find("`", start + 1)
        return len(text) if end < 0 else end + 1
    depth = 0
    for i in range(text.index("(", start), len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if not depth:
            return i + 1
    return len(text)


def _add_bodies(text: str, ends: list[str], parts: list[Token]) -> int:
    """Adds here-documents that begin here as blocks; returns the number of their characters."""
    size = 0
    while ends:
        end = re.search(rf"^\t*{re.escape(ends.pop(0))}[ \t]*$", text[size:], re.MULTILINE)
        body = text[size : size + end.start()] if end else text[size:]
        parts += [Token("<<", True), *tokens(body), Token("\n", True), Token(">>", True)]
        size = size + end.end() if end else len(text)
    return size


@dataclasses.dataclass
class _Block:
    """A part of the script that may run, run often, or not run; the variables before it."""

    kind: str
    before: dict[str, str]
    assigned: set[str] = dataclasses.field(default_factory=set)


class Command(NamedTuple):
    """A simple command that sets no variables.

    Attributes:
      words: not expanded.
      variables: values where it stands.
      repeated: True in a loop or function, where later assignments count too.
      place: the number of assignments before it.
    """

    words: tuple[str, ...]
    variables: dict[str, str]
    repeated: bool
    place: int


class Reader:
    """Follows the variables of a script.

    Attributes:
      environment: values of variables, which count where the script has no certain one.
      module: the folder of a Python package, None if it is not known.
      assigned: names in the order of their assignments.
      exported: names that commands get as their environment.
    """

    def __init__(self, environment: Mapping[str, str], module: Callable[[str], str | None]) -> None:
        self.environment = dict(environment)
        self.module = module
        self.assigned: list[str] = []
        self.exported: set[str] = set()
        self._variables = dict(environment)
        self._blocks: list[_Block] = []

    def _forget(self, name: str) -> None:
        """Takes the value of a variable as not known, but for one of the environment."""
        self._assign(name, unknown(name, self.environment))

    def _assign(self, name: str, value: str) -> None:
        self.assigned.append(name)
        self._set(name, value)

    def _set(self, name: str, value: str) -> None:
        self._variables[name] = value
        if self._blocks:
            self._blocks[-1].assigned.add(name)

    def _open(self, kind: str) -> None:
        self._blocks.append(_Block(kind, dict(self._variables)))
        if kind == "function":  # its arguments are not the script's
            self._variables |= {str(i): unknown(str(i), {}) for i in range(1, 10)}

    def _next_branch(self) -> None:
        if self._blocks:
            self._variables = dict(self._blocks[-1].before)

    def _close(self) -> None:
        if self._blocks:
            block = self._blocks.pop()
            self._variables = block.before
            for name in block.assigned:
                self._set(name, unknown(name, self.environment))

    def commands(self, script: str) -> Iterator[Command]:
        """Yields the commands that set no variables."""
        parts = [*tokens(script), Token("\n", True)]
        words: list[str] = []
        before, function = "", False
        for i, token in enumerate(parts):
            if not token.operator:
                words.append(token.text)
                continue
            if token.text == "(" and parts[i + 1] == Token(")", True):
                words, function = [], True  # `NAME()`
                continue
            if token.text == ")" and words[:1] == ["case"]:
                words = self._without_keywords(words, False)
            if token.text == "(" and before == ";;" and self._in("case"):
                continue
            if token.text == ")" and (function or self._in("case")):
                words = []  # a pattern of `case`, or the other half of `NAME()`
                if not function:
                    self._next_branch()
                continue
            command = self._without_keywords(words, function)
            if command and not self._read(command, before in ("&&", "||", "|")):
                repeated = any(block.kind in ("loop", "function") for block in self._blocks)
                place = len(self.assigned)
                yield Command(tuple(command), dict(self._variables), repeated, place)
            if words or token.text != "\n":  # an empty line goes on with `&&`
                before, function = token.text, False
            words = []
            if token.text in ("(", "<<"):
                self._open("group")
            elif token.text in (")", ">>"):
                self._close()

    def _in(self, kind: str) -> bool:
        return bool(self._blocks) and self._blocks[-1].kind == kind

    def _without_keywords(self, words: list[str], function: bool) -> list[str]:
        """Returns a command without the words that open and close blocks, which it follows."""
        while words:
            first = words[0]
            if first in ("for", "select") and len(words) > 1:
                self._open("loop")
                self._forget(words[1])
                return []
            if first == "case":
                self._open("case")
                return []
            if first in ("fi", "done", "esac", "}"):
                self._close()
                return []
            if first in _OPENS:
                self._open(_OPENS[first])
            elif first == "{":
                self._open("function" if function else "group")
            elif first == "function":
                self._open("function")  # closed with its brace
                return self._without_keywords([word for word in words[2:] if word != "{"], False)
            elif first in ("elif", "else"):
                self._next_branch()
            elif first not in ("then", "do", "!", "time"):
                return words
            words = words[1:]
        return words

    def _read(self, words: list[str], maybe: bool) -> bool:
        """Takes over the variables that a command sets; returns whether it does nothing else."""
        first = words[0]
        if first in _SETS:
            if first != "printf" or words[1:2] == ["-v"]:
                for word in words[1:]:
                    if match := re.match(r"[A-Za-z_]\w*", word):
                        self._forget(match[0])
            return True
        texts = words[1:] if first in _DECLARE else words
        if first == "export":
            self.exported |= {text.partition("=")[0].rstrip("+") for text in texts}
        matches = [ASSIGNMENT.fullmatch(text) for text in texts]
        if first not in _DECLARE and not all(matches):
            return False
        for match in matches:
            if match and (maybe or match[3].startswith(ARRAY)):
                self._forget(match[1])
            elif match:
                name, plus, text = match.groups()
                old = self._variables.get(name) or unknown(name, {})
                value = expand(text, self._variables, self.module)
                self._assign(name, old + value if plus else value)
        return True


def unknown(name: str, environment: Mapping[str, str]) -> str:
    """Returns a variable's value in the environment, else the variable, marked."""
    return environment.get(name) or f"{OPEN['$']}{{{name}}}"


def expand(text: str, variables: Mapping[str, str], module: Callable[[str], str | None]) -> str:
    """Returns a word with its known variables and modules replaced; what is left is marked.

    Args:
      text: of `tokens`.
      variables: by name.
      module: the folder of a Python package, None if it is not known.
    """

    def command(match: re.Match[str]) -> str:
        asked = _FIND_MODULE.search(match[1] or match[2] or "")
        return (module(asked[1]) if asked else None) or match[0]

    text = re.sub(r"`([^`]*)`|\$\(([^()]*)\)", command, text)
    arguments = r"\$\{(\d+):?-(\$\{\w+\})\}"  # the script's own
    text = re.sub(arguments, lambda match: variables.get(match[1]) or match[2], text)
    for _ in range(10):  # the value of a variable may have others in it
        before = text
        text = _VARIABLE.sub(lambda match: _variable(match, variables), text)
        if text == before:
            break
    for char in OPEN:
        text = text.replace(char, OPEN[char]).replace(LITERALS[char], char)
    return text


def _variable(match: re.Match[str], variables: Mapping[str, str]) -> str:
    return variables.get(match[1] or match[3]) or match[2] or match[0]
