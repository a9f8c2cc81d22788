"""The machines qir compiles for, as data."""
