"""Reports for people: terminal, HTML, Markdown, CSV and plots."""
