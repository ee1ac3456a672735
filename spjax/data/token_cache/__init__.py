"""From a task to token ids on disk.

`seqio_tasks.py` and `tfds_folders.py` import TensorFlow, in processes of their own that the cache
starts for published datasets (the extra `tfds`). Everything else needs numpy and SentencePiece.
"""
