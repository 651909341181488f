"""Kernels for NVIDIA GPUs, compiled by Triton where it is installed."""
