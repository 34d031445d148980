"""Packaging. The rooms stand at the top of the tree and are packaged as podnet.<room> through the symlinks in podnet/."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="podnet",
    version="0.1.0",
    description="A Kubernetes network you can hold in your hands: real packets, real kubectl, no containers.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["podnet", "podnet.*"]),
    include_package_data=True,
    package_data={"": ["py.typed", "*.c", "*.yaml", "*.json", "*.txt", "*.html"]},
    entry_points={"console_scripts": ["podnet = podnet.__main__:main"]},
    install_requires=[
        "mininet==2.3.0.dev6",  # nodes, switches, links (mnexec comes from the distribution's package)
        "aiohttp==3.14.5",  # HTTP both ways
        "uvloop==0.23.0",
        "orjson==3.13.0",
        "kubernetes-validate==1.37.0",  # Kubernetes 1.32 schemas, with merge keys
        "cryptography==50.0.2",  # X.509 and the signatures of ServiceAccount tokens
        "scapy==2.8.0",  # decoding captures
        "PyYAML==6.0.3",
        "typer==0.24.2",  # the last line without pydantic, which would double the start of every command
        "rich==15.0.0",
        "setproctitle==1.3.8",
    ],
    extras_require={
        "sdn": ["os-ken==4.2.2"],  # Ryu's maintained fork: Ryu does not start on Python >= 3.11
        "dev": [
            "pytest==9.2.0",
            "pytest-asyncio==1.5.0",
            "pytest-randomly==5.1.0",
            "pytest-xdist==3.8.0",
            "hypothesis==6.170.15",
            "ruff==0.17.5",
            "mypy==2.4.1",
            "import-linter==2.16",
            "codespell==2.4.3",
            "types-PyYAML==6.0.12.20261113",
            "kubernetes==37.0.2",
            "lightkube==1.0.1",
            "dnspython==2.9.2",
            "dnslib==0.9.26",  # an oracle for the wire format, with dnspython and scapy
        ],
    },
)
