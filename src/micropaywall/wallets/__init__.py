"""Wallets: keystore files, passphrases, and the port through which payments are signed."""
