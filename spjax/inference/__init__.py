"""Answers of a frozen model under stored prompts: decoding, scores, ensembles."""
