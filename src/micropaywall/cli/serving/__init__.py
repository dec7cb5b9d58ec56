"""What ``micropaywall serve`` runs: an application behind a paywall, under uvicorn, in one process or several."""
