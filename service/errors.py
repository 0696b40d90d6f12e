"""The error tree: what can go wrong, and the HTTP status that says so. It knows no web framework.

    StillroomError
    ├── InputError 422            the values sent are not what the model takes
    │   ├── MalformedError 400    the bytes sent are not JSON, not a form, not an image
    │   ├── EncodingError 415     the body is packed in a way that is not known
    │   └── TooLargeError 413     the body or the image is over a limit
    ├── UnknownKeyError 401       no key was sent, or none that is known
    ├── RefusedError 403          that is not for this client to do
    ├── NotFoundError 404         an unknown model, version or page
    ├── BusyError 503             not ready, too busy, or another comparison is running: try again
    ├── RemoteError 502           another server cannot be asked, or gives no usable answer
    ├── LateError 504             the model gave no answer in time
    ├── ModelError 500            a model in the repository cannot be trusted or read
    └── SettingsError 500         the service cannot start as it was asked to

Every message says what was given, what was expected and what is available.
"""

from __future__ import annotations


class StillroomError(Exception):
    """The root: its text is fit for a user, `status` is its HTTP status."""

    status = 500


class InputError(StillroomError):
    """The values sent are not what the model takes."""

    status = 422


class MalformedError(InputError):
    """The bytes sent cannot be read at all."""

    status = 400


class EncodingError(InputError):
    """The body is packed in a way that is not known."""

    status = 415


class TooLargeError(InputError):
    """What was sent is over a limit."""

    status = 413


class UnknownKeyError(StillroomError):
    """No key was sent, or none that is known."""

    status = 401


class RefusedError(StillroomError):
    """That is not for this client to do."""

    status = 403


class NotFoundError(StillroomError):
    """Nothing has that name."""

    status = 404


class BusyError(StillroomError):
    """Not now: try again after `retry_after_s` seconds."""

    status = 503

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteError(StillroomError):
    """Another server cannot be asked, or gives no usable answer."""

    status = 502


class LateError(StillroomError):
    """No answer in time."""

    status = 504


class ModelError(StillroomError):
    """A model of the repository cannot be trusted or read."""


class SettingsError(StillroomError):
    """The service cannot start as it was asked to."""
