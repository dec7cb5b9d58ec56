"""Thin layers over well-kept native libraries: Keccak-256, secp256k1, EIP-712. Nothing here invents cryptography."""
