"""vitc: compresses trained vision transformers, and runs what comes out."""
from ._commands import Message, Step, command, compile, compiling
from ._library import Error, version
from ._model import Model, Value, load

__all__ = ["Error", "Message", "Model", "Step", "Value", "command", "compile", "compiling", "load", "version"]
__version__ = version()
