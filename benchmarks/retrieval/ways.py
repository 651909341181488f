"""All ways to search, by name."""

from __future__ import annotations

from benchmarks.retrieval import faiss_ways, graph_ways, ours, scann_ways
from benchmarks.retrieval.way import Way

WAYS: dict[str, Way] = {
    way.name: way for way in (*ours.WAYS, *faiss_ways.WAYS, *scann_ways.WAYS, *graph_ways.WAYS)
}
