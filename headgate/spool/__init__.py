"""The durable queue: what the receiver and the uploader must agree on. Knows no HTTP and no S3.

A file's place is its state. The files are the truth; the catalog is an index of them.

| | where the file is | acknowledged | after a crash |
|---|---|---|---|
| S0 | nowhere | no | the device sends again |
| S1 | tmp/ | no | emptied when the receiver starts |
| S2 | new/ (perhaps also tmp/) | yes, once the folder's fsync returned | the next run sends it |
| S3 | new/, object in S3 | yes | If-None-Match or HEAD finds it: confirmed, not sent twice |
| S4 | done/ | yes | kept, then pruned; its receipt stays |
| S5 | aside/ | yes | a person looks; ``headgate retry`` puts it back, ``discard`` ends it |

The invariant: every acknowledged image is in exactly one of new, done, aside, or was pruned from
done, or has a line that says it is lost or was discarded by a person
(``headgate.spool.site.gone``); received = new + done + aside + pruned + lost + discarded, always.
``headgate.spool.upkeep.verify`` checks it.

Who moves what: the receiver only adds, tmp/ -> new/. Only the holder of the drain lock moves or
unlinks anything in new/, done/ and aside/ (``headgate.spool.upkeep.mover``).
"""
