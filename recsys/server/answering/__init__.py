"""Answers to requests from one opened version of a bundle."""
