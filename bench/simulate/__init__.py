"""Sites in simulated time: the product's own arithmetic, a clock that is counted, no I/O."""
