"""Text corpora as token ids on disk, for pre-training and LM adaptation."""
