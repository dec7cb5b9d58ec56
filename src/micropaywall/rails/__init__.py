"""Ways value moves. One folder per scheme with the same four files: types, buyer, seller, facilitator."""
