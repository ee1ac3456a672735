"""SentencePiece vocabularies: T5's and the pocket edition's, and those beside a checkpoint."""
