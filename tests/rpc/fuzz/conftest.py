"""The profile of `make fuzz`, which runs it again and again, with other examples each time."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "long", max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
