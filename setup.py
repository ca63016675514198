"""Packaging: four top-level folders become one package, `edgepose`."""

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


CPU = ["openvino>=2024.6", "onnxruntime>=1.18"]
WORKSTATION = [*CPU, "torch>=2.6", "onnx>=1.16", "onnxsim>=0.4.36", "pycocotools>=2.0.8"]

setup(
    name="edgepose",
    version="0.1.0",
    description="Human-pose networks from PyTorch checkpoint to INT8 on NVIDIA Jetson",
    python_requires=">=3.10",
    package_dir=FOLDERS,
    packages=packages(),
    package_data={"edgepose": ["py.typed", "*.json"], "edgepose.export": ["weights/*"]},
    install_requires=["numpy>=1.24", "click>=8.1", "opencv-python-headless>=4.8"],
    extras_require={
        "cpu": CPU,
        "workstation": WORKSTATION,
        "jetson": ["pycuda>=2024.1"],
        "dev": [*WORKSTATION, "pytest", "ruff", "mypy"],
    },
    entry_points={"console_scripts": ["edgepose = edgepose.cli:main"]},
)
