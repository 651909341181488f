"""One recipe on several data sets: changes that help on all of them, by validation users."""
