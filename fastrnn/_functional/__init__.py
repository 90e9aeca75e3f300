"""The functions on plain arrays: what checks their arguments and runs them."""
