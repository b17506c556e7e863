"""commonprior: one prior, learned in common; no data shared."""
