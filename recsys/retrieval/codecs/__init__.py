"""Codecs: how a slice of the vectors is stored, and how it is decoded."""
