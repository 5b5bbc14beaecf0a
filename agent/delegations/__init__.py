"""Deciders of the staking belt: pure functions of facts. They read nothing, write nothing, and know no clock but the one they are told.

policy   may this transaction be made now?            proposal and facts → verdict with every rule's finding
fees     what does it offer, and what after it waits? market and what was offered → quote, or wait
nonces   is the account still only ours?              counts of chain and book → go on, or why not
tracker  what became of it?                           receipts, counts, book → moves, rows, timers
hints    what did the node mean?                      error text → one word, for metrics and people only
"""
