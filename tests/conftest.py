"""What holds for every test."""

from hypothesis import settings

# A machine that is busy with other work is no fault of the code: no example fails for the time it took.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
