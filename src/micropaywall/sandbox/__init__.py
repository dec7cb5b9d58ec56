"""The sandbox network: an EIP-3009 token on a chain that one file holds, for trying, teaching and testing payments."""
