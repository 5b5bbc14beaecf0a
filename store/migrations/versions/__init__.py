"""One module for each step of the schema. A step is frozen once released: it spells out its SQL and imports no table."""
