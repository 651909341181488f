"""What is made of a whole history at once: sums and means of its vectors."""
