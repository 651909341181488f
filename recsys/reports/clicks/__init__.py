"""Reports of labelled events: the table of figures, and the reliability plot."""
