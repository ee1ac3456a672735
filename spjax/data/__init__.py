"""From a task to batches: tokenised tasks, the token cache, and batches with slots.

`seqio_tasks.py`, `tfds_folders.py` and the builders of corpora import TensorFlow, in processes of
their own that the cache starts for published datasets (the extra `tfds`). Everything else here
needs numpy, SentencePiece and Grain.
"""
