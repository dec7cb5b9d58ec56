"""The rail of x402's `exact` scheme on EVM networks: one EIP-3009 TransferWithAuthorization per payment."""
