"""What the functions raise."""

from mshisto_ray.config import InputError, TooManyFailuresError
from mshisto_ray.slides import SlideError

__all__ = ["InputError", "JobFailedError", "SlideError", "TooManyFailuresError"]


class JobFailedError(RuntimeError):
    """A job ended with an exit code other than 0; what it printed says why."""
