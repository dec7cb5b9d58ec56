"""Every numeric bound of micropaywall, with its reason. A bound that is not here is a defect.

Where an operator may need another value, a setting overrides it (see ``docs/reference/configuration.md``).
"""

from __future__ import annotations

from typing import Final

# -- what a stranger may send to a seller
CREDENTIAL_HEADER_BYTES_MAX: Final = 8_192
"""A payment header, encoded. nginx refuses lines over 8 KiB; an exact payment is about 1.1 kB, a channel deposit 4 kB."""
CREDENTIAL_JSON_DEPTH_MAX: Final = 16
"""Nesting of a decoded payment; the deepest known scheme has 6. Guards recursive walks over `extra`."""
REQUEST_BODY_BYTES_MAX: Final = 1_048_576
"""A priced request's body, which is held to fingerprint it. A route may set its own `max_body`."""
PATH_BYTES_MAX: Final = 8_192
"""A request target. Servers in front cut at 4 to 8 KiB."""
PATH_READINGS_MAX: Final = 256
"""Readings of one path that are compared with the priced routes; a path with more is refused."""
IDEMPOTENCY_KEY_CHARS_MAX: Final = 255
SIGNATURE_BYTES_MAX: Final = 4_096
"""A payment's signature. An ordinary account's has 65; contract wallets' are longer, within the header's own limit."""
ADDRESS_TEXTS_CACHED_MAX: Final = 8_192
"""EIP-55 texts kept, because payers come back and a text costs a Keccak; about 150 bytes each."""
SIGNERS_REMEMBERED_MAX: Final = 4_096
"""Signers of digests and signatures just checked, so that settling in the same process does not recover them again."""
DOMAIN_SEPARATORS_CACHED_MAX: Final = 1_024
"""EIP-712 domains kept: one per token and chain."""

# -- what a seller sends
CHALLENGE_HEADERS_BYTES_MAX: Final = 3_500
"""All header lines of a 402. Reverse proxies with 4 KiB buffers answer 502 above it."""
HTML_PAGE_BYTES_MAX: Final = 30_000
OFFERS_PER_ROUTE_MAX: Final = 16
CHALLENGE_CACHE_ENTRIES_MAX: Final = 4_096
"""Rendered 402 answers kept per paywall; the oldest are dropped, so that strangers cannot fill memory with query strings."""
CACHED_URL_CHARS_MAX: Final = 1_024
"""Answers and quotes for longer URLs are made each time: what strangers can have kept is entries times this."""

# -- time
QUOTE_LIFETIME_S: Final = 300
QUOTES_REMEMBERED_MAX: Final = 1_024
"""Quotes whose MAC is remembered: with the longest URLs 8 MB."""
QUOTE_BUCKET_S: Final = 10
"""Quotes of the same request within a bucket are equal, so that a 402 is rendered once per bucket."""
AUTHORIZATION_LIFETIME_S: Final = 300
"""`maxTimeoutSeconds` of an offer, the default of the official SDKs."""
AUTHORIZATION_MARGIN_S: Final = 6
"""An authorization must live at least this long when presented, to be submitted in time (x402 exact, EVM)."""
DEFERRED_MARGIN_S: Final = 3
"""An authorization must live at least this long when its response is ready in `deferred` mode, to be settled afterwards."""
AUTHORIZATION_LIFETIME_S_MAX: Final = 86_400
"""Longest `validBefore` ahead of now that a seller takes and a buyer signs."""
CLOCK_SKEW_S: Final = 30
HANDLER_TIMEOUT_S: Final = 120.0
DRAIN_AFTER_DISCONNECT_S: Final = 30.0
"""A buyer that left still gets its response made and kept; a stream that goes on longer is told that nobody listens."""
CHARGE_LEASE_S: Final = 150
"""A reserved charge is given back when its worker has been silent so long; longer than HANDLER_TIMEOUT_S."""
LEASE_CARE_S: Final = 5.0
"""How often a seller extends the leases of what it serves, and looks for those of workers that died on its host."""
SETTLE_LEASE_S: Final = 60
SETTLE_TIMEOUT_S: Final = 30.0
"""How long a buyer's request waits for the rail before it is told `outcome_unknown`."""
SETTLE_RETRY_S_MIN: Final = 1.0
SETTLE_RETRY_S_MAX: Final = 60.0
RECOVERY_INTERVAL_S: Final = 1.0
RETRY_AFTER_S: Final = 1

# -- what a seller holds
HELD_BODY_MEMORY_BYTES_MAX: Final = 1_048_576
"""A response waiting for settlement, in memory; beyond it goes to a temporary file."""
HELD_BODY_DISK_BYTES_MAX: Final = 67_108_864
"""A response waiting for settlement, on disk; beyond it the payment is settled before the first byte leaves."""
STORED_RESPONSE_BYTES_MAX: Final = 8_388_608
"""A response kept in the book for a retry. A larger one is delivered once; its retry is told so."""
RESPONSE_RETENTION_S: Final = 86_400
WRITER_QUEUE_MAX: Final = 10_000
"""Commands waiting for the book's writer; beyond it requests get 503 instead of waiting for ever."""
COMMANDS_PER_COMMIT_MAX: Final = 500
BOOK_LOCK_WAIT_S: Final = 5.0
"""How long a commit waits for another process that is writing to the same SQLite book."""
BOOK_HOST_LEASE_S: Final = 60
"""A host that has not been seen for so long has let go of a SQLite book."""
BOOK_HEARTBEAT_S: Final = 10.0
"""How often a process says that its host has a SQLite book open."""
SEAL_INTERVAL_S: Final = 5.0
"""How long a row of the book waits for the hash chain."""
SEAL_LAG_S_MAX: Final = 30.0
"""How long it waits while the seller is busy."""
SEAL_ROWS_MAX: Final = 10_000
"""Rows under one seal: what `ledger verify` can tell apart."""
WORDS_INTERVAL_S: Final = 3.0
"""How often the book's search index is looked after."""
WORDS_INDEX_ROWS: Final = 2_000
"""Rows put into the book's search index in one step of the writer: some milliseconds."""
WORDS_LAG_MAX: Final = 1_000_000
"""Rows that may wait for the search index while the seller is busy; a search looks at them one by one."""
PRUNE_INTERVAL_S: Final = 60.0
"""How often stored responses whose retention is over are erased."""
BOOK_CACHE_KIB: Final = 65_536
"""Page cache of one SQLite connection, at most: the index of a million replay keys fits in."""
REPLAY_TAIL_MAX: Final = 65_536
"""Replay keys that wait in memory (some 12 MB) to be put into the index, together and in order."""
REPLAY_MOVE_ROWS: Final = 1_024
"""How many of them at once: a few milliseconds of the book's writer."""
BOOK_RECENT_MAX: Final = 32_768
"""Reservations whose row numbers the writer remembers, to capture them without looking them up."""
BOOK_READERS: Final = 4
"""Threads that read from a SQLite book, each with a connection of its own."""
PRUNE_ROWS: Final = 200
"""Responses that one commit of `ledger prune` looks at: servers wait some milliseconds for it, not for all of it."""
SETTLEMENTS_PER_BATCH_MAX: Final = 200
EXPOSURE_ATOMIC_DEFAULT: Final = 1_000_000
"""Delivered and unsettled per payer in `deferred` mode: one dollar of a 6-decimals token."""

# -- settlement in the background
SETTLE_CALL_S: Final = SETTLE_LEASE_S - 5.0
"""A call to a rail is given up before the lease under which it is made ends: nobody else may submit until then."""
SETTLE_BATCHES_MAX: Final = 8
"""Batches of one worker under way at once: a rail that hangs neither holds up the others nor fills the memory."""
WORKER_DRAIN_S: Final = 10.0
"""How long a stopping worker waits for its calls; what is left is recovered when the leases run out."""

# -- the sandbox network
SANDBOX_BLOCKS_MAX: Final = 10_000
"""Blocks that one call may mine or reorganise."""
SANDBOX_TRANSFERS_MAX: Final = 1_000
"""Transfers in one call."""
SANDBOX_LOGS_MAX: Final = 1_000
"""Transactions in one answer."""
SANDBOX_FAULTS_MAX: Final = 8
"""Faults that one header or one setting may name."""
SANDBOX_FAULTS_KEPT_MAX: Final = 10_000
"""Faults asked for by header that are kept; the oldest go first, so that strangers do not fill the disk."""
SANDBOX_BUSY_S: Final = 15.0
"""How long a writer waits for another process. A batch of 200 takes some milliseconds."""
SANDBOX_RECEIPT_WAIT_S: Final = 20.0
"""How long a settlement waits for a block where the chain does not mine at once; below SETTLE_TIMEOUT_S."""
SANDBOX_REQUEST_BYTES_MAX: Final = 1_048_576
"""A call to a sandbox server; one with the most transfers has about half of it."""
SANDBOX_ANSWER_BYTES_MAX: Final = 4_194_304
SANDBOX_ANSWER_S: Final = 25.0
"""Below SETTLE_TIMEOUT_S, so that a server that hangs is noticed before the buyer is told anything."""
SANDBOX_IDLE_S: Final = 60.0
"""A connection that is idle or stalled is closed by the sandbox server after so long."""

# -- what a buyer accepts
CHALLENGE_HEADER_BYTES_MAX: Final = 65_536
CHALLENGE_BODY_BYTES_MAX: Final = 262_144
"""The body of a 402 as read by a buyer (v1 puts its offers there; the official HTML page is 2.3 MB and is not read)."""
CHALLENGE_JSON_DEPTH_MAX: Final = 32
"""Nesting of a challenge; its extensions carry JSON schemas, which nest deeper than payments do."""
CHALLENGE_ERROR_CHARS_MAX: Final = 200
"""How much of a seller's error text is read: a sentence, no page of instructions."""
RECEIPT_HEADER_BYTES_MAX: Final = 16_384
OFFERS_READ_MAX: Final = 64
RESPONSE_BYTES_MAX: Final = 67_108_864
"""A paid response read into memory by `micropaywall get`."""
RESENDS_MAX: Final = 3
"""How often a buyer re-sends the same payment after 409, 503 or a lost answer, before it reports the outcome as unknown."""
RESEND_WAIT_S_MIN: Final = 0.25
"""Before the first re-send when the seller names no time; doubled each time."""
RESEND_WAIT_S_MAX: Final = 10.0
RESERVATION_LEASE_S: Final = 900
"""How long a budget is reserved for a payment that is not signed yet: time for a person to approve it."""
APPROVAL_FRESH_S: Final = 30
"""After an approval that took longer, the buyer asks for the offer again: its quote may have expired."""
PROBLEM_BODY_BYTES_MAX: Final = 65_536
"""The body of a refusal as read by a buyer; more is left to the caller, unread."""
STATUS_BODY_BYTES_MAX: Final = 12_582_912
"""The answer of `GET /payments/{id}`, which may hold a stored response in base64."""
REPLAYABLE_BODY_BYTES_MAX: Final = 8_388_608
"""A request body that comes as a stream is kept up to here, so that it can be sent again with a payment."""
UNTRUSTED_CHARS_MAX: Final = 200
"""What is kept of a seller's text for people; it is data, and marked as such."""
REDIRECTS_MAX: Final = 5
