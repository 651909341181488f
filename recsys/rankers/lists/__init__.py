"""The last stage: ten of the ranked candidates, chosen for more than their scores."""
