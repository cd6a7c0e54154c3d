"""The ground floor: small values that every other package may use. Standard library and msgspec only."""
