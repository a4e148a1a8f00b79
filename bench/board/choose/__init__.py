"""One answer for a network, from all suites that measured the same thing."""
