"""The maps with the interface of scikit-learn.

The only place of the core that knows scikit-learn, NumPy and files.
"""

from somcore.estimators.growing import ALTSSSOM, LARFDSSOM, SSSOM
from somcore.estimators.lattice import DSSOM, KohonenSOM

__all__ = ["ALTSSSOM", "DSSOM", "LARFDSSOM", "SSSOM", "KohonenSOM"]
