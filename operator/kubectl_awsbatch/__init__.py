"""`kubectl awsbatch`: lists, terminates, awaits and explains BatchJobs, through the caller's kubectl.

It uses the standard library only. It starts for every command that a person types, so modules that take long to import
are imported where they are used, and `typing` never: type checkers treat a constant of the name TYPE_CHECKING as true.
"""

__version__ = "0.1.0"
