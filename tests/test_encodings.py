"""Text files are UTF-8 whatever the locale says: every call that opens one names its encoding."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "spjax").rglob("*.py"))
# The place of the mode among the positional arguments, where there is one.
OPENERS = {"open": 1, "fdopen": 1, "TemporaryFile": 0, "NamedTemporaryFile": 0}
TEXTS = {"read_text": 0, "write_text": 1}  # and of the encoding


def constant(node, default=None):
    return node.value if isinstance(node, ast.Constant) else default


def lacks_encoding(call):
    """Returns whether a call opens a text without saying its encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = {word.arg: word.value for word in call.keywords}
    if "encoding" in words or None in words:
        return False
    if name in ("run", "Popen", "check_output"):
        return any(constant(words.get(word)) for word in ("text", "universal_newlines"))
    if name in TEXTS and isinstance(call.func, ast.Attribute):
        own = getattr(call.func.value, "id", "") in ("files", "disk")  # functions of ours
        return not own and len(call.args) <= TEXTS[name]
    owner = getattr(getattr(call.func, "value", None), "id", "")
    known = isinstance(call.func, ast.Name) or owner in ("os", "tempfile")
    if name not in OPENERS or not known:
        return False
    place = OPENERS[name]
    mode = words.get("mode") or (call.args[place] if len(call.args) > place else None)
    default = "w+b" if "Temporary" in name else "r"
    return "b" not in (constant(mode, "b") if mode else default)


def test_every_text_names_its_encoding():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks_encoding(node)
    ]
    assert not wrong, "these calls need encoding='utf-8':\n" + "\n".join(wrong)


def test_the_check_sees_what_it_should():
    def lacks(text):
        return lacks_encoding(ast.parse(text).body[0].value)

    for text in (
        "open(p)",
        "open(p, 'a')",
        "p.read_text()",
        "p.write_text(t)",
        "run(c, text=True)",
        "tempfile.TemporaryFile('w+')",
        "os.fdopen(3, 'w')",
    ):
        assert lacks(text), text
    for text in (
        "open(p, 'rb')",
        "open(p, encoding='utf-8')",
        "p.read_text('utf-8')",
        "run(c)",
        "gzip.open(p, 'rb')",
        "self.open(p)",
        "Image.open(p)",
    ):
        assert not lacks(text), text
