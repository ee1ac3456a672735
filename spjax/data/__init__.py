"""From a task to batches: seqio tasks, the token cache, and batches with slots.

Only `seqio_tasks.py` and `build_cache.py` import TensorFlow, and nothing imports those two: the
cache starts them in a process of their own. Everything else here needs numpy, SentencePiece and
Grain.
"""
