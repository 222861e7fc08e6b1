# SPDX-License-Identifier: AGPL-3.0-or-later
"""Packaging of the overlay: files that are installed beside Ultralytics' own, and the hook that activates them."""

import re
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
STARTUP = "ultralytics/cfg/compress/startup"
TOP_LEVEL = ["ultralytics_compress.pth", "ultralytics_compress_startup.py", "ultralytics_compress_drop_in.py"]


class OverlayDistribution(Distribution):
    """Distribution whose data files reach editable installs too.

    Setuptools' `editable_wheel` asks for `has_data` before it installs them, and only `has_data_files` exists.
    """

    has_data = Distribution.has_data_files


class OverlayBuild(build_py):
    """Build that leaves `ultralytics/nn/extra_modules/__init__.py` out of wheels.

    Ours is empty, and the folder is a package without it. Forks have one that they import from: an installation over
    theirs would replace it, and removing this package would delete it.
    """

    def find_package_modules(self, package, package_dir):
        """List the modules of a package."""
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("ultralytics.nn.extra_modules", "__init__")]


def read_version():
    """Read the version from the package's text: importing it would need Ultralytics, which a build does not have."""
    text = (ROOT / "ultralytics/cfg/compress/__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return version


def read_oldest():
    """Read the oldest Ultralytics that is supported, as the version."""
    text = (ROOT / "ultralytics/cfg/compress/compat/__init__.py").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'^TESTED = \(\s*"([\d.]+)"', text, re.MULTILINE)
    return oldest


def find_overlay_packages():
    """List the folders of the overlay that hold files of ours, as package names.

    `setuptools.find_packages` wants an `__init__.py`, which the overlay must not have where Ultralytics has one.
    """
    files = [file for file in (ROOT / "ultralytics").rglob("*") if file.suffix in {".py", ".yaml"}]
    folders = {file.parent.relative_to(ROOT) for file in files}
    return sorted(".".join(folder.parts) for folder in folders - {Path(STARTUP)})


setup(
    name="ultralytics-compress",
    version=read_version(),
    description="Structured pruning for Ultralytics YOLO: prune, fine-tune and report in one command",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="AGPL-3.0-or-later",  # package indexes refuse it beside a classifier of the licence
    license_files=["LICENSE", "NOTICE"],
    keywords=["YOLO", "Ultralytics", "pruning", "structured pruning", "model compression", "object detection"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.0",  # as torch-pruning
        "torch-pruning>=1.5.3",  # the oldest that tests/matrix.py has run
        f"ultralytics>={read_oldest()}",  # no bound above: an installation must not change a working Ultralytics
        "pyyaml>=5.3.1",  # as ultralytics
        "filelock>=3.12",  # a run's folder is its own while it works; torch requires it as well
        "psutil>=5.8.0",  # as ultralytics
        "jinja2>=3.0",  # the report's page; torch requires it as well
    ],
    extras_require={
        "test": [
            "cloudpickle>=3.1.1",  # Ultralytics writes the state of its distributed workers with it
            "pytest>=7.0",
            "pytest-xdist>=3.7",
            "setuptools>=77.0.3,<85",  # as pyproject.toml: the tests build without isolation
        ],
        "dev": ["mypy~=2.4.0", "pre-commit>=4.0", "ruff~=0.17.6", "types-PyYAML"],
        "docs": [
            "jieba~=0.42",  # with it mkdocs-material finds the words of Chinese, for the search
            "mkdocs-material~=9.7",
            "mkdocs-static-i18n~=1.3",
            "mkdocstrings[python]>=0.30",
        ],
        "quantize": ["nvidia-modelopt>=0.44", "huggingface_hub"],  # as ultralytics' quantize=8 asks for
        "ray": ["ray[tune]>=2.41"],  # as Ultralytics' tune(use_ray=True)
        "export": ["onnx>=1.12.0", "onnxslim>=0.1.82", "onnxruntime>=1.17.0"],
        "device": [  # runtimes of budgets in time with what exports to them: the versions that have been measured
            "onnx>=1.12.0",
            "onnxruntime>=1.17.0",
            "openvino>=2026.4.1",
            "ncnn>=1.0.20261020",
            "pnnx>=20260526",
            "MNN>=3.6.1",
            "ai-edge-litert>=2.3.0",
            "litert-torch>=0.10.0",
        ],
    },
    distclass=OverlayDistribution,
    cmdclass={"build_py": OverlayBuild},
    packages=find_overlay_packages(),
    package_data={"": ["*.yaml", "*.html"]},
    # A wheel's data folder lies beside its purelib one: these land at the top of site-packages.
    data_files=[("../purelib", [f"{STARTUP}/{name}" for name in TOP_LEVEL])],
    zip_safe=False,
)
