"""Installs spjax: `pip install -e .`."""

import re
from pathlib import Path

import setuptools

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "spjax/__init__.py").read_text())[1]
README = HERE / "README.md"

# The lower bounds are what spjax is tested with; the upper ones stand where the next release may
# change its interface.
REQUIRES = [
    "flax>=0.12.8,<0.13",
    "gin-config>=0.5.0,<0.6",  # spjax/config reads its private tables
    "grain>=0.2.18,<0.3",
    "jax>=0.10.2,<0.11",
    "matplotlib>=3.11,<4",
    "ml_dtypes>=0.6,<1",
    "msgpack>=1.2,<2",
    "numpy>=2.4,<3",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "pandas>=3.0,<4",
    "pyarrow>=26.0,<27",
    "rich>=15.0,<16",
    "safetensors>=0.8.0,<0.9",
    "scipy>=1.17,<2",
    "sentencepiece>=0.2.3,<0.3",
    "tensorboardX>=2.6.5,<3",
    "tensorstore>=0.1.86,<0.2",
]
# Published datasets, text corpora for pre-training, and the metrics of summaries and translations.
TFDS = [
    "importlib_resources>=7.1,<8",  # tensorflow-datasets fails silently without
    "rouge-score>=0.1.2,<0.2",
    "sacrebleu>=2.6,<3",
    "seqio>=0.0.20,<0.0.21",
    "tensorflow>=2.21,<2.22",
    "tensorflow-datasets>=4.9.10,<5",
    "tensorflow-text>=2.21,<2.22",
]
EXTRAS = {
    "tfds": TFDS,
    # scikit-learn is what our own metrics are compared with.
    "test": [
        *TFDS,
        "pytest>=9.2,<10",
        "pytest-xdist>=3.8,<4",
        "scikit-learn>=1.9,<2",
        "setuptools>=77",  # builds the wheel that is tested
    ],
    # Checkpoints behind hf://, gs://, s3:// and http:// (T5X's need none of these).
    "hub": ["huggingface_hub>=1.0,<3"],
    "gcs": ["gcsfs>=2025.9"],
    "s3": ["s3fs>=2025.9"],
    "http": ["fsspec[http]>=2025.9"],
    # Parity tests against PyTorch's T5 and PEFT.
    "torch": ["torch>=2.13.0,<2.14", "transformers>=5.23,<6", "peft>=0.21.2,<0.22"],
}

SHIPPED = {f"spjax.shipped.{name}": name for name in ("gin_configs", "experiments")}

setuptools.setup(
    name="spjax",
    version=VERSION,
    description="Soft prompts for frozen T5 models in JAX, and the scaling study of Lester et al.",
    long_description=README.read_text() if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The gin files stay at the top of the tree and are installed inside the package.
    package_dir={"spjax": "spjax", **SHIPPED},
    packages=[*setuptools.find_packages(include=["spjax", "spjax.*"]), *SHIPPED],
    package_data={
        **{name: ["*/*.gin"] for name in SHIPPED},
        "spjax": ["py.typed"],
        "spjax.vocabularies": ["t5.model"],
        "spjax.pocket": ["vocabulary.model", "weights/*.safetensors", "weights/*.json"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["spjax=spjax.cli.main:main"]},
)
