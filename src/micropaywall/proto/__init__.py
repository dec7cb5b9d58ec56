"""Wire formats, and nothing else: bytes to typed values and back. Versions and dialects are converted here only.

The values are those of `core.model`; no other module of the core is known here.
"""
