"""DingTalk's own APIs, a file a family. A module here declares its APIs when it is imported."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
