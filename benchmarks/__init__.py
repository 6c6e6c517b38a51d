"""The commands behind the README's figures. Ray reads its environment when it is imported, so it is set here, first."""

from twinspire.cluster import quiet_environment

quiet_environment()
