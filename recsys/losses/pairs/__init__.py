<<<<<<< HEAD
"""Losses of models of pairs: users and items without sequences."""
=======
"""Losses of (user, item) pairs without an order."""
>>>>>>> graph
