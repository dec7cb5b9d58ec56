"""Fuzzing of what strangers send: by coverage (fuzz_wire), and its kept corpus in every test run (test_corpus)."""
