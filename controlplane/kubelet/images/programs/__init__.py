"""The programs of the catalogue: in a container these files stand alone, next to the standard library."""
