"""InSPO for offline multi-agent reinforcement learning."""

import warnings

# sacred imports pkg_resources, which says so at every start.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
