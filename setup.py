"""What setup.cfg cannot say: `configs/` is installed as data of the package, below `eqvae/recipes`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["eqvae*", "dit*", "twostage*"]), "eqvae.recipes"],
    package_dir={"eqvae.recipes": "configs"},
)
