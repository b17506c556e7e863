"""A package, so that `ledger` is these tests and not the benchmark of that name."""
