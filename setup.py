"""Packaging: four top-level folders become one package, `edgepose`. Everything else is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = {
    "edgepose": "edgepose",
    "edgepose.export": "export",
    "edgepose.calibration": "calibration",
    "edgepose.benchmarks": "benchmarks",
}


def packages() -> list[str]:
    found = []
    for package, folder in FOLDERS.items():
        found.append(package)
        found += [f"{package}.{name}" for name in find_packages(folder)]
    return found


setup(
    package_dir=FOLDERS,
    packages=packages(),
    package_data={
        "edgepose": ["py.typed", "weights/*"],
        "edgepose.cuda": ["*.cu", "*.h"],
        "edgepose.io": ["*.js"],
        "edgepose.export": ["weights/*"],
    },
)
