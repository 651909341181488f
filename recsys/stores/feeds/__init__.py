"""Stores that are fed from files: a schema, the rows, and the query, in the store's own format."""
