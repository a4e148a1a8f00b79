"""The board as one HTML file."""
