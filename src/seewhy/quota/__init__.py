"""One desk for a whole cluster: every worker of every job of a study asks it before it calls a limited or paid service.

The desk is a named Ray actor around brokers, one a service, and one budget for all of them. It belongs to no driver:
jobs come and go, the desk stays until nobody has asked for a while, is started again where it dies, and made anew where
it is gone. Workers hold a ``Quota``, which gathers what its process asks and reports into one message, and says it
again until it is heard: asking twice for the same call is asking once. A desk that starts without a past is told it by
the callers: which calls they started in the last window, and how many were allowed. What was spent it reads from a
ledger file, written before the money can be spent.
"""

from seewhy.quota.client import Quota as Quota
from seewhy.quota.desk import NAMESPACE as NAMESPACE
from seewhy.quota.desk import desk_name as desk_name
from seewhy.quota.ledger import Ledger as Ledger
from seewhy.quota.purse import SharedPurse as SharedPurse
