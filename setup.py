"""Says what of spjax is installed; all else about the package is in pyproject.toml."""

import setuptools

# The gin files stay at the top of the tree and are installed inside the package.
SHIPPED = {f"spjax.shipped.{name}": name for name in ("gin_configs", "experiments")}

setuptools.setup(
    package_dir={"spjax": "spjax", **SHIPPED},
    packages=[*setuptools.find_packages(include=["spjax", "spjax.*"]), *SHIPPED],
    package_data={
        **{name: ["*/*.gin"] for name in SHIPPED},
        "spjax": ["py.typed"],
        "spjax.analysis.study_page": ["page.css", "page.js"],
        "spjax.vocabularies": ["t5.model"],
        "spjax.pocket": ["vocabulary.model", "weights/*.safetensors", "weights/*.json"],
        "spjax.pocket.graded": ["vocabulary.model"],
    },
)
