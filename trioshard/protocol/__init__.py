"""The protocol without I/O: tables, values and arithmetic. Nothing in here awaits, sleeps or reads a clock."""
