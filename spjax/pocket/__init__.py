"""The pocket edition: a generated world of short texts, nine tasks over it, and its vocabulary."""
