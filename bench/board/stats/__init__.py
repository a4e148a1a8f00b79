"""What may be said of measured numbers: intervals, paired differences, ranks, corrections."""
