"""What can go wrong while training. Every message says what was given, what was expected and what is available."""


class TrainerError(Exception):
    """The one error that the command line shows as a line and not as a traceback."""


class RecipeError(TrainerError):
    """A recipe is not one: missing, malformed, with an unknown key or an impossible value."""


class DataError(TrainerError):
    """A data set is missing, corrupt, or not what the recipe needs."""


class RunError(TrainerError):
    """A run's folder holds what this run cannot use."""


class ExportError(TrainerError):
    """A model cannot be exported or published as it is."""
