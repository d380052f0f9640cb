"""Read by Python as it starts, where `commands.run` puts this folder on its path: a warning of evenfooting's own is an error."""

import warnings

warnings.filterwarnings("error", module=r"(curate|pretrain|evaluate|cards)(\.|$)")
