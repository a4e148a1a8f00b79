"""What a plan will cost: seconds of this machine, or of one that a calibration file describes."""
