"""What the providers understand: wire formats, one file for each, and the catalogue of who speaks which.

Everything in here is pure: a wire format turns arguments into a body and an answer into a small typed view. It never
opens a connection, never reads a clock or the environment, and imports no trio and no httpx.
"""
