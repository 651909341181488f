"""Rankers: learned second stages, which order the candidates of a funnel."""
