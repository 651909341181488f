"""Tables whose rows take fewer bytes than their vectors."""
