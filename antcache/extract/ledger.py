"""The ledger of a pass, which lies beside the store: `antcache.store.local.ledger`.

Promise: the same ledger as that of imports.
"""

from antcache.store.local.ledger import Failure, Ledger

__all__ = ["Failure", "Ledger"]
