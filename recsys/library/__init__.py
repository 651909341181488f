"""The library: data frames in, recommendations by external ids out, thin over the recipes."""
