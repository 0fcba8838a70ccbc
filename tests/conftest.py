"""What all tests share."""

from hypothesis import settings

# An example that takes long on a busy machine is no fault of the code under test.
settings.register_profile(
    "loa", settings.get_profile(settings.get_current_profile_name()), deadline=None
)
settings.load_profile("loa")
