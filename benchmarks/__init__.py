"""Speed, side by side with the bare app and with the official SDK: `make bench`."""
