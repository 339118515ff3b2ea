"""The profile of `make fuzz`."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "long", max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
