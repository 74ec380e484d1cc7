"""Hold what every room may use, and what knows of no room.

csv_cells.py cells of CSV that no spreadsheet computes
errors.py    every error that a user can cause, and its exit code
files.py     small files written whole or not at all; what the system has against it, in one line
frozen.py    the base of values that are read from files and checked
lock.py      two runs kept off one result
memory.py    how this process takes memory
shutdown.py  a signal that asked for a stop, remembered
tables.py    tables as plain text
text.py      text of other people as one printable line without secrets; JSON
types.py     the values that pass from one stage to another
urls.py      schemes: what lies on an object store, and what has to be fetched
"""
