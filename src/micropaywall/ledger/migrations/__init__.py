"""From the tables of an older micropaywall to those of this one. Needs the extra ``migrate``; never imported to serve."""
