"""`recsys update`: a trained run goes on with new rows, users and items."""
