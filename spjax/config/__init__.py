"""Gin files in, frozen dataclasses out; the only package that imports gin.

Flags and macros follow T5X (`--gin_file`, `--gin.NAME=value`, `--gin_search_paths`), with two
differences: gin accepts a binding that nothing uses, here it is an error that names it; and values
that gin files bind in the scopes `method_default/` and `preset_default/` hold only where nothing
else binds them, whatever the order of the files (`spjax.config.reading`).
"""

from spjax.config.identity import canonical, config_str, differences, identity, run_key, settings
from spjax.config.reading import (
    Product,
    build,
    check_used,
    default_search_paths,
    find_file,
    load,
    load_with_folder,
    macro,
    parse,
    product,
    shipped_files,
    split_binding,
    unused,
    used,
)
from spjax.config.registry import by, configurable, register_all, register_methods
from spjax.config.stored import load_stored

__all__ = [
    "Product",
    "build",
    "by",
    "canonical",
    "check_used",
    "config_str",
    "configurable",
    "default_search_paths",
    "differences",
    "find_file",
    "identity",
    "load",
    "load_stored",
    "load_with_folder",
    "macro",
    "parse",
    "product",
    "register_all",
    "register_methods",
    "run_key",
    "settings",
    "shipped_files",
    "split_binding",
    "unused",
    "used",
]
