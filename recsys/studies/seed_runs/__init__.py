"""One config trained with several seeds: runs beside each other, and figures over the seeds."""
