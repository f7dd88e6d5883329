"""The package `inspo` is the folder src/. `pip install -r requirements.txt` installs it too."""

from pathlib import Path

from setuptools import find_packages, setup

# rliable needs arch below version 8, which needs pandas below version 3.
STATS = ["rliable>=1.2,<2", "pandas>=2.2,<3"]

TEST = [
    *STATS,
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "tensorstore>=0.1.60",
    "huggingface_hub>=2.0",
    "nbclient>=0.10",  # runs docs/quickstart.ipynb
    "nbformat>=5.10",
    "ipykernel>=6.29",
]

GYMNASIUM = "gymnasium>=1.0,<2"
RAY = "ray>=2.40,<3"
JAXMARL = "jaxmarl>=0.2,<0.3; python_version >= '3.11'"

setup(
    name="inspo-marl",
    version="0.2.0",
    description="InSPO (In-Sample Sequential Policy Optimization): offline multi-agent RL",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    package_dir={"inspo": "src"},
    packages=["inspo", *(f"inspo.{name}" for name in find_packages("src"))],
    package_data={
        "inspo": [
            "config/*.yaml",
            "config/*/*.yaml",
            "data/tools/*.yaml",
            "policies/*.yaml",
            "policies/*.pt",
        ]
    },
    install_requires=[
        "torch>=2.4",  # fused Adam on the CPU
        "numpy>=1.26",
        "sacred>=0.8.5",  # PyMARL's experiment record
        "setuptools<81",  # sacred imports pkg_resources, which later versions lack
        "pydantic>=2.5",  # typed settings
        "pyyaml>=6.0",
        "h5py>=3.10",  # datasets
        "filelock>=3.12",  # one writer for each dataset (torch needs it too)
        "psutil>=5.9",  # free memory, before a dataset is loaded
        "tqdm>=4.66",
        "tensorboard>=2.14",
        "matplotlib>=3.8",
        "scipy>=1.13",  # statistics of comparisons
    ],
    extras_require={
        "smax": [JAXMARL],  # battles without StarCraft II
        # Environments of other projects, by env: pettingzoo and env: gymnasium
        "gymnasium": [GYMNASIUM],
        "jaxmarl": [JAXMARL],  # Overcooked and other games, by env: jaxmarl
        "mpe": ["mpe2>=1.1,<2", "pettingzoo>=1.25,<2"],
        "lbf": ["lbforaging>=2.0,<3", GYMNASIUM],
        "rware": ["rware>=2.0,<3", GYMNASIUM],
        "sweep": [RAY],  # many runs, on one machine or on a cluster
        "vault": ["tensorstore>=0.1.60"],  # reads OG-MARL's Vaults
        "fetch": ["huggingface_hub>=2.0"],  # downloads public datasets
        # SMAC itself is on no index (docker/README.md). It uses numpy.bool, which numpy 2 has.
        "sc2": ["pysc2>=4.0", "numpy>=2.0"],
        "stats": STATS,  # compare.py --aggregate
        "wandb": ["wandb>=0.18"],  # use_wandb=True
        "mlflow": ["mlflow-skinny>=2.14"],  # use_mlflow=True
        "test": TEST,
        "dev": [*TEST, "ruff>=0.15", "import-linter>=2.5"],
    },
)
