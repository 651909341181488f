"""Controls of a study: other ways to make short item vectors."""
