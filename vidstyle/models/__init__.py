"""Networks and styles: their weights, their files."""
