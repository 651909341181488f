"""Tables in which several indices share rows."""
