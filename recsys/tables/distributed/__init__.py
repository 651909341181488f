"""Tables spread over several processes."""
