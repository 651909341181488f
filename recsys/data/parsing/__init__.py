"""Reading interactions: frames, ids and times of any spelling."""
