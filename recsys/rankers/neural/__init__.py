"""Neural rankers: batches of rows, losses, fitting, and scoring by onnxruntime."""
