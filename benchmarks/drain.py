"""How fast the settlement of deferred payments goes: one worker, the sandbox network, nothing else running."""
