"""The agent's book: everything an agent knows, in one database with one writer. In: domain values. Out: the same, exactly.

`book` opens it, `tables` is the schema, one module for each noun reads and writes it, `queries` is what people look at.
"""
