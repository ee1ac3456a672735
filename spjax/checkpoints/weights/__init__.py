"""Frozen weights of T5X, Hugging Face and spjax: reading, writing, converting."""
