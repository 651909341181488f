"""The ranking stage: fitting rankers on the funnel's own candidates, and measuring them."""
