"""Measurements: `make bench` runs them all and prints the budgets of the design with what was measured beside each."""
