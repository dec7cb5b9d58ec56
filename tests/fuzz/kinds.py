"""The first byte of an input (modulo 8): what a stranger sends."""

SIGNATURE_RAW, SIGNATURE_JSON, PAYMENT_RAW, PAYMENT_JSON, TWO_HEADERS, CHALLENGE_JSON, BODY, RECEIPT_JSON = range(8)
COUNT = 8
