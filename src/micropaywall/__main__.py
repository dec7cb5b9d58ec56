"""``python -m micropaywall`` is the command line."""

from micropaywall.cli import main

main()
