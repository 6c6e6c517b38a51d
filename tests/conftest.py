"""Settings of all tests."""

from hypothesis import settings

# A first call compiles or loads a kernel, so the time of one example says nothing.
settings.register_profile("twinspire", deadline=None)
settings.load_profile("twinspire")
