"""Rules of the house that can be checked by reading the files."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "spjax").rglob("*.py"))
ALL_SOURCES = [
    *SOURCES,
    *(path for x in ("tests", "benchmarks", "experiments") for path in (ROOT / x).rglob("*.py")),
]
GROUND = (
    "types",
    "injection",
    "trees",
    "metrics",
    "files",
    "hub",
    "validation",
    "extras",
    "locks",
    "subprocesses",
    "text_tables",
    "guesses",
)
GROUND += ("folder_registry", "multihost", "platforms", "tpu_devices")
# Every package may import those before it, and GROUND.
LAYERS = (
    "vocabularies",
    "models",
    "partitioning",
    "checkpoints",
    "methods",
    "pocket",
    "data",
    "inference",
    "training",
    "pretraining",
    "config",
    "studies",
    "analysis",
    "api",
    "integrations",
    "cli",
    "__main__",
)


def allowed(package):
    below = LAYERS[: LAYERS.index(package)] if package in LAYERS else ()
    if package == "__init__":  # for type checkers only: importing it is nearly free, see below
        below = LAYERS[: LAYERS.index("cli")]
    return {*GROUND, *below, package, "__version__"}


def imports(path):
    """(line, dotted name) of everything a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room(path):
    return path.relative_to(ROOT / "spjax").parts[0].removesuffix(".py")


def test_arrows_point_down():
    wrong = []
    for path in SOURCES:
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] == "spjax" and parts[1] not in allowed(room(path)):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {room(path)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles():
    """Imports inside functions and for type checkers count too."""
    modules = {}
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = path
    graph = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for _, name in imports(path)}
        graph[module] = {name for name in names if name in modules and name != module}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_every_room_has_a_layer():
    assert {room(path) for path in SOURCES} <= {*GROUND, *LAYERS, "__init__"}


@pytest.mark.parametrize(
    "package, home",
    [
        ("gin", "spjax/config/"),
        ("tensorflow", "spjax/data/"),
        ("tensorflow_text", "spjax/data/"),
        ("seqio", "spjax/data/"),
        ("t5", "nowhere"),
        ("pickle", "nowhere"),
    ],
)
def test_packages_stay_in_their_room(package, home):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line, name in imports(path)
        if name.split(".")[0] == package and not str(path.relative_to(ROOT)).startswith(home)
    ]
    assert not wrong, f"{package} is imported outside {home}: {wrong}"


def test_files_and_functions_are_short():
    wrong = []
    for path in SOURCES:
        text = path.read_text()
        if text.count("\n") > 500:
            wrong.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 80:
                wrong.append(f"{path}:{node.lineno} {node.name}")
    assert not wrong, wrong


def public(path):
    """Public functions, classes and methods of a file."""
    for node in ast.parse(path.read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for member in [node, *members]:
            named = isinstance(member, (ast.FunctionDef, ast.ClassDef))
            if named and not member.name.startswith("_") and not node.name.startswith("_"):
                yield member


def test_public_names_have_docstrings_and_types():
    wrong = []
    for path in SOURCES:
        if not ast.get_docstring(ast.parse(path.read_text())):
            wrong.append(f"{path}: no docstring")
        for node in public(path):
            if not ast.get_docstring(node):
                wrong.append(f"{path}:{node.lineno} {node.name}: no docstring")
            if isinstance(node, ast.FunctionDef) and node.returns is None:
                wrong.append(f"{path}:{node.lineno} {node.name}: no return type")
    assert not wrong, "\n".join(wrong)


RELATIVE_WORDS = {"As", "How", "What", "When", "Where", "Whether", "Which", "Who", "Why"}
# Short names that their libraries' own documentation uses.
ALIASES = {
    "apache_beam": "beam",
    "flax.linen": "nn",
    "jax.numpy": "jnp",
    "numpy": "np",
    "orbax.checkpoint": "ocp",
    "pandas": "pd",
    "tensorflow": "tf",
    "tensorflow_datasets": "tfds",
    "tensorstore": "ts",
}


def test_docstrings_open_with_an_imperative_or_a_noun_phrase():
    wrong = []
    for path in ALL_SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                continue
            words = (ast.get_docstring(node) or "").split()
            if words and words[0].rstrip(",:") in RELATIVE_WORDS:
                name = getattr(node, "name", "the module")
                wrong.append(f"{path.relative_to(ROOT)}: {name}: {' '.join(words[:6])} ...")
    assert not wrong, "\n".join(wrong)


def test_spelling_is_american():
    """Exempt are the texts of the pocket world, which models have been trained on."""
    british = re.compile(
        r"(?<![\w.`/-])(un)?(tokenis|normalis|optimis|serialis|colour|favour|behaviour|licence)",
        re.I,
    )
    paths = [*ALL_SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    paths = [path for path in paths if "pocket" not in path.parts and path != Path(__file__)]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if british.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_alias_hides_the_name_of_a_module():
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            parent = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                name, shown = f"{parent}{alias.name}", alias.asname or alias.name
                # An alias that contains the name, such as gin_config for gin.config, hides nothing.
                if ALIASES.get(name) != shown and name.rpartition(".")[2] not in shown:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name} as {shown}")
    assert not wrong, "\n".join(wrong)


def run(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def test_importing_spjax_is_nearly_free():
    code = (
        "import sys, time; start = time.process_time(); import spjax\n"
        "print(time.process_time() - start)\n"
        "assert not {'jax', 'numpy', 'gin'} & set(sys.modules)"
    )
    assert float(run(code).stdout) < 0.1  # seconds of CPU


def test_training_never_loads_tensorflow():
    code = "import spjax.training.loop, sys; print(*sys.modules)"
    loaded = set(run(code).stdout.split())
    assert not {"tensorflow", "seqio", "t5", "clu.metric_writers"} & loaded


def test_figures_are_drawn_without_jax():
    code = "import sys, spjax.analysis.report; assert not {'jax', 'flax', 'gin'} & set(sys.modules)"
    run(code)


def test_help_needs_no_jax():
    code = (
        "import sys; from spjax.cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'jax' not in sys.modules and 'gin' not in sys.modules"
    )
    assert "sweep" in run(code).stdout
