"""Pages of the documentation site beside docs/: README, references, files that pages link to.

A hook of MkDocs (`hooks` in mkdocs.yml). README becomes the first page. The reference of Python,
the command line and gin is made from the code. A link to a file of the repository outside docs/
adds that file to the site, under its own path.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import posixpath
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
PAGES["CHANGELOG.md"] = "CHANGELOG.md"
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_WIDTH = "88"  # as wide as a page of the site


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages and files that do not lie in docs/."""
    made = {
        "reference/python.md": python_reference(),
        "reference/command_line.md": command_reference(),
        "reference/gin.md": gin_reference(),
    }
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    known = {f"docs/{file.src_uri}" for file in files} | set(PAGES)
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    waiting = [path for path in known if path.endswith(".md")]
    while waiting:
        for path in sorted(set(_linked(waiting.pop())) - known):
            known.add(path)
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
            if path.endswith(".md"):
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points links at where the site has the files."""
    place = page.file.src_uri
    origin = next((path for path, at in PAGES.items() if at == place), "")
    origin = origin or (f"docs/{place}" if (ROOT / "docs" / place).exists() else place)

    def moved(match: re.Match[str]) -> str:
        start, target, anchor, end = match.groups()
        path = _path(origin, target)
        if path is None:
            return match[0]
        there = PAGES.get(path, path.removeprefix("docs/"))
        here = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return f"{start}{here}{anchor or ''}{end}"

    return _LINK.sub(moved, markdown)


def _linked(path: str) -> Iterator[str]:
    """Yields the files of the repository that a page links to."""
    source = ROOT / path
    if source.is_file():
        for match in _LINK.finditer(source.read_text(encoding="utf-8")):
            if linked := _path(path, match[2]):
                yield linked


def _path(origin: str, target: str) -> str | None:
    """Returns the path in the repository of a link in a page, None for another kind of link."""
    if "://" in target or target.startswith(("/", "mailto:")):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    return path if not path.startswith("..") and (ROOT / path).is_file() else None


def python_reference() -> str:
    """Returns a page of directives for `mkdocstrings`, one for each public name."""
    import spjax

    titles = ("Functions and what they return", "Methods and initializers", "Models and optimizers")
    groups: dict[str, list[str]] = {title: [] for title in titles}
    values = {name: getattr(spjax, name) for name in dir(spjax)}
    # Functions first, then what they return.
    for name in sorted(values, key=lambda name: (isinstance(values[name], type), name.lower())):
        value = values[name]
        module = getattr(value, "__module__", "")
        if not name.startswith("_") and module.startswith("spjax."):
            place = {"api": 0, "methods": 1}.get(module.split(".")[1], 2)
            groups[titles[place]].append(f"::: {module}.{value.__name__}")
    parts = ["# Python API", "Everything here is `spjax.NAME`."]
    for title, directives in groups.items():
        parts += [f"## {title}", *directives]
    return "\n\n".join(parts) + "\n"


def command_reference() -> str:
    """Returns the help of every command."""
    from spjax.cli import main

    os.environ["COLUMNS"] = _WIDTH
    parser = main.make_parser()
    commands = next(x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    parts = ["# Commands", f"```text\n{parser.format_help()}```"]
    for name, command in commands.choices.items():
        parts += [f"## spjax {name}", f"```text\n{command.format_help()}```"]
    return "\n\n".join(parts) + "\n"


def gin_reference() -> str:
    """Returns a page of everything that gin files can bind, with types and defaults."""
    from spjax import config
    from spjax.config.registry import REGISTERED
    from spjax.studies import study

    config.register_all()
    study._register_executors()
    parts = [
        "# Gin configurables",
        "What files bind, as `NAME.parameter = value`. `spjax configs` lists those that ship.",
    ]
    for name in sorted(REGISTERED, key=str.lower):
        target: Any = REGISTERED[name]
        text, meanings = _docstring(target)
        parts += [f"## {name}", text]
        rows = [
            f"| `{parameter}` | {kind} | {default} | {meanings.get(parameter, '')} |"
            for parameter, kind, default in _parameters(target)
        ]
        if rows:
            head = "| parameter | type | default | meaning |\n| --- | --- | --- | --- |"
            parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"


def _docstring(target: Any) -> tuple[str, dict[str, str]]:
    """Returns the text of a docstring, and what it says of each attribute or argument."""
    sections = griffe.Docstring(inspect.getdoc(target) or "").parse("google", warnings=False)
    texts = [str(x.value) for x in sections if x.kind is griffe.DocstringSectionKind.text]
    kinds = (griffe.DocstringSectionKind.attributes, griffe.DocstringSectionKind.parameters)
    items = [item for x in sections if x.kind in kinds for item in x.value]
    return "\n\n".join(texts), {x.name: " ".join(x.description.split()) for x in items}


def _parameters(target: Any) -> Iterator[tuple[str, str, str]]:
    from spjax.config.identity import parameters

    allowed = parameters(target)
    fields = {x.name: x for x in dataclasses.fields(target)} if _is_dataclass(target) else {}
    for name, parameter in inspect.signature(target).parameters.items():
        if name not in allowed:
            continue
        default: Any = parameter.default
        field = fields.get(name)
        if field is not None and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        kind = str(parameter.annotation).replace("|", "or")
        required = default is inspect.Parameter.empty
        shown = "required" if required else f"`{textwrap.shorten(repr(default), 60)}`"
        yield name, f"`{kind}`", shown


def _is_dataclass(target: Any) -> bool:
    return isinstance(target, type) and dataclasses.is_dataclass(target)
