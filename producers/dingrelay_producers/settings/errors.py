"""What is raised where a setting is wrong."""


class SettingsError(ValueError):
    """A setting is missing or wrong. The message names the variable and never its value."""
