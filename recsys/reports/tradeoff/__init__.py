"""The trade-off between bytes, work and quality, for people: page, plots, CSV, terminal."""

from recsys.reports.tradeoff.page import TradeoffContent, write_tradeoff
from recsys.reports.tradeoff.terminal import print_tradeoff

__all__ = ["TradeoffContent", "print_tradeoff", "write_tradeoff"]
