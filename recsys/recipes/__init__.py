"""One function per verb; the only place that joins siblings."""
