"""Data: tasks and their templates, the token cache, text corpora, batches."""
