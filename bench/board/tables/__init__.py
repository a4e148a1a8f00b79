"""What boards and pages print."""
