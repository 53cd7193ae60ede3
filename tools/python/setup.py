"""Builds the C library with tools/install, unless VITC_LIBRARY names one, and puts it into the package."""
import os
import pathlib
import re
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HEADER = ROOT / "Sources/CVitc/include/vitc.h"
if not HEADER.exists():
    raise SystemExit("the package is built within vitc's sources, of which it is a part: pip install tools/python")
VERSION = re.search(r'current = "(.*)"', (ROOT / "Sources/Vitc/Version.swift").read_text()).group(1)


class Build(build_py):
    """Puts the library beside the modules."""

    def run(self):
        super().run()
        library = os.environ.get("VITC_LIBRARY")
        if library and not os.path.exists(library):
            raise SystemExit(f"VITC_LIBRARY names '{library}', which is not there (give an absolute path)")
        if not library:
            major = re.search(r"#define VITC_ABI_MAJOR (\d+)", HEADER.read_text()).group(1)
            prefix = ROOT / ".build/python"
            subprocess.run([str(ROOT / "tools/install"), str(prefix)], check=True)
            library = prefix / f"lib/libvitc.so.{major}"
        package = HERE / "vitc" if self.editable_mode else pathlib.Path(self.build_lib) / "vitc"
        shutil.copyfile(library, package / "libvitc.so")


class Binary(Distribution):
    """A wheel that is of one platform: the library in it is."""

    def has_ext_modules(self):
        return True


setup(version=VERSION, cmdclass={"build_py": Build}, distclass=Binary)
