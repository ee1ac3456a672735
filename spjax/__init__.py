"""spjax: soft prompts for frozen T5 models in JAX, and the scaling study of Lester et al. (2021).

Importing the package itself loads nothing heavy; import the room that is needed, for example
`spjax.models`, `spjax.methods`, `spjax.training` or `spjax.studies`.
"""

__version__ = "0.1.0"
