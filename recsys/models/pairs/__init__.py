"""Models of users and items without sequences, trained on (user, item) pairs."""
