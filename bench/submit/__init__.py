"""Results that others can check: packed by who measured them, checked and re-run by who did not."""
